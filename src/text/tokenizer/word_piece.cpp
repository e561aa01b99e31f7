#include "text/tokenizer/word_piece.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/printable.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {

WordPiece::WordPiece(Vocabulary vocabulary, Options options)
    : Model(std::move(vocabulary)), options_(std::move(options)) {}

std::unique_ptr<WordPiece> WordPiece::from_json(const json::Node& node) {
  Options options;
  options.unknown = node["unk_token"].string();
  options.continuing_prefix = node["continuing_subword_prefix"].string();
  options.max_characters = node["max_input_chars_per_word"].integer(0, INT64_MAX / 2);
  return std::make_unique<WordPiece>(read_vocabulary(node["vocab"]), std::move(options));
}

void WordPiece::encode(std::string_view piece, Scratch&, std::vector<TokenId>& out) const {
  const size_t before = out.size();
  bool known = unicode::count_characters(piece) <= options_.max_characters;
  std::string candidate;
  for (size_t start = 0; known && start < piece.size();) {
    candidate = start > 0 ? options_.continuing_prefix : "";
    const size_t prefix = candidate.size();
    // No token is longer than the longest, which keeps a long piece from being tried at every
    // length.
    const size_t longest = std::max(vocabulary().longest(), prefix) - prefix;
    size_t end = std::min(piece.size(), start + longest);
    while (end < piece.size() && (piece[end] & 0xC0) == 0x80) --end;
    candidate.append(piece, start, end - start);
    TokenId id = kNoToken;
    while (candidate.size() > prefix && (id = vocabulary().find(candidate)) == kNoToken) {
      do candidate.pop_back();
      while (candidate.size() > prefix &&
             (piece[start + candidate.size() - prefix] & 0xC0) == 0x80);
    }
    known = id != kNoToken;
    out.push_back(id);
    start += candidate.size() - prefix;
  }
  if (known) return;
  out.resize(before);
  const TokenId unknown = vocabulary().find(options_.unknown);
  if (unknown == kNoToken) {
    throw Error("tokenizer", fmt::format("the unknown token '{}' is not in the vocabulary",
                                         printable(options_.unknown)));
  }
  out.push_back(unknown);
}

}  // namespace mxgpt::tokenizer
