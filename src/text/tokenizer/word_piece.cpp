#include "text/tokenizer/word_piece.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/escape.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {

WordPiece::WordPiece(Vocabulary vocabulary, Options options)
    : Model(std::move(vocabulary)), options_(std::move(options)) {}

std::unique_ptr<WordPiece> WordPiece::from_json(const json::Node& node) {
  Options options;
  options.unk_token = node["unk_token"].string();
  options.continuing_subword_prefix = node["continuing_subword_prefix"].string();
  options.max_input_chars_per_word = node["max_input_chars_per_word"].integer(0, INT64_MAX / 2);
  return std::make_unique<WordPiece>(read_vocabulary(node["vocab"]), std::move(options));
}

void WordPiece::encode(std::string_view word, Scratch&, std::vector<text::TokenId>& out) const {
  const size_t before = out.size();
  bool known = text::unicode::count_characters(word) <= options_.max_input_chars_per_word;
  std::string candidate;
  for (size_t start = 0; known && start < word.size();) {
    candidate = start > 0 ? options_.continuing_subword_prefix : "";
    const size_t prefix = candidate.size();
    // Start at the length of the longest token, so that long words take linear time.
    const size_t max_bytes = std::max(vocabulary().max_token_bytes(), prefix) - prefix;
    size_t end = std::min(word.size(), start + max_bytes);
    while (end < word.size() && (word[end] & 0xC0) == 0x80) --end;
    candidate.append(word, start, end - start);
    text::TokenId id = kNoToken;
    while (candidate.size() > prefix && (id = vocabulary().find(candidate)) == kNoToken) {
      do candidate.pop_back();
      while (candidate.size() > prefix && (word[start + candidate.size() - prefix] & 0xC0) == 0x80);
    }
    known = id != kNoToken;
    out.push_back(id);
    start += candidate.size() - prefix;
  }
  if (known) return;
  out.resize(before);
  const text::TokenId unknown = vocabulary().find(options_.unk_token);
  if (unknown == kNoToken) {
    throw Error("tokenizer", fmt::format("the unknown token '{}' is not in the vocabulary",
                                         escape_for_terminal(options_.unk_token)));
  }
  out.push_back(unknown);
}

}  // namespace mxgpt::tokenizer
