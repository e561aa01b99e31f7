#include "text/tokenizer/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/tokenizer/unicode_properties.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {
namespace {

/// Trie search restarts at each byte of the text, so the length of tokens must be bounded.
constexpr size_t kMaxBytes = 4096;

/// Start of the last character before `at`.
size_t character_before(std::string_view text, size_t at) {
  do --at;
  while ((text[at] & 0xC0) == 0x80);
  return at;
}

bool word_ends_at(std::string_view text, size_t at) {
  if (at == 0) return false;
  size_t i = character_before(text, at);
  return is_word(text::unicode::next(text, i));
}

bool word_starts_at(std::string_view text, size_t at) {
  return at < text.size() && is_word(text::unicode::next(text, at));
}

size_t whitespace_before(std::string_view text, size_t at, size_t min_pos) {
  while (at > min_pos) {
    const size_t before = character_before(text, at);
    size_t i = before;
    if (!text::unicode::is_whitespace(text::unicode::next(text, i))) break;
    at = before;
  }
  return at;
}

size_t whitespace_after(std::string_view text, size_t at) {
  for (size_t i = at;
       i < text.size() && text::unicode::is_whitespace(text::unicode::next(text, i));)
    at = i;
  return at;
}

}  // namespace

std::vector<AddedToken> AddedToken::list_from_json(const json::Node& node) {
  std::vector<AddedToken> tokens;
  for (size_t i = 0; i < node.array().size(); ++i) {
    const json::Node entry = node.at(i);
    AddedToken token;
    token.content = entry["content"].string();
    if (token.content.size() > kMaxBytes)
      entry["content"].fail(fmt::format("exceeds {} bytes", kMaxBytes));
    entry["id"].integer(0, kMaxTokenId);
    token.special = entry["special"].boolean();
    token.normalized = entry["normalized"].boolean();
    token.lstrip = entry["lstrip"].boolean();
    token.rstrip = entry["rstrip"].boolean();
    token.single_word = entry["single_word"].boolean();
    tokens.push_back(std::move(token));
  }
  return tokens;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Vocabulary& model,
                         text::TokenId first_id, const Normalizer* normalizer) {
  std::erase_if(tokens, [](const AddedToken& token) { return token.content.empty(); });
  tokens_ = std::move(tokens);
  if (first_id > kMaxTokenId - static_cast<text::TokenId>(tokens_.size())) {
    throw Error("tokenizer", fmt::format("more than {} tokens", kMaxTokenId));
  }
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    text::TokenId id = contents_.find(token.content);
    if (id == kNoToken) id = model.find(token.content);
    if (id == kNoToken) id = first_id++;
    contents_.add(token.content, id);
    std::string spelling = token.content;
    if (token.normalized && normalizer) {
      NormalizedText text{token.content, true};
      normalizer->normalize(text);
      spelling = std::move(text.text);
    }
    vocabulary_.add(spelling, id);
    if (token.special) special_.add(token.content, id);
    if (id >= static_cast<text::TokenId>(index_of_id_.size())) index_of_id_.resize(id + 1, -1);
    index_of_id_[id] = static_cast<int32_t>(i);
  }
  std::vector<std::pair<std::string_view, int32_t>> raw, normalized;
  for (text::TokenId id = 0; id < static_cast<text::TokenId>(index_of_id_.size()); ++id) {
    if (index_of_id_[id] < 0) continue;
    const AddedToken& token = tokens_[index_of_id_[id]];
    if (token.normalized)
      normalized.emplace_back(vocabulary_.id_to_token(id), id);
    else
      raw.emplace_back(token.content, id);
  }
  raw_ = ByteTrie(std::move(raw));
  normalized_ = ByteTrie(std::move(normalized));
}

const AddedToken& AddedTokens::by_id(text::TokenId id) const {
  return tokens_[index_of_id_[id]];
}

void AddedTokens::split(std::string_view text, Stage stage,
                        FunctionRef<bool(size_t, size_t)> allow_special,
                        FunctionRef<void(size_t, size_t, text::TokenId)> emit) const {
  const ByteTrie& trie = stage == Stage::kRaw ? raw_ : normalized_;
  size_t done = 0, whitespace_end = 0;
  for (size_t at = 0; !trie.empty() && at < text.size();) {
    if (!trie.starts_key(static_cast<uint8_t>(text[at]))) {
      ++at;
      continue;
    }
    size_t length = 0;
    text::TokenId id = kNoToken;
    trie.for_each_prefix(text.substr(at), [&](size_t l, text::TokenId token) {
      length = l;
      id = token;
    });
    if (id == kNoToken) {
      ++at;
      continue;
    }
    const AddedToken& token = by_id(id);
    size_t begin = at, end = at + length;
    at = end;
    if (is_special(token.content) && !allow_special(begin, end)) continue;
    if (token.single_word && (word_ends_at(text, begin) || word_starts_at(text, end))) continue;
    if (token.lstrip) begin = std::max(whitespace_before(text, begin, done), done);
    if (token.rstrip && whitespace_end <= end) whitespace_end = whitespace_after(text, end);
    if (token.rstrip) end = whitespace_end;
    if (done < begin) emit(done, begin, kNoToken);
    // The token may start within whitespace claimed by the previous one. It is dropped only if
    // nothing of it remains.
    if (begin < end) emit(begin, end, id);
    done = end;
  }
  if (done < text.size()) emit(done, text.size(), kNoToken);
}

}  // namespace mxgpt::tokenizer
