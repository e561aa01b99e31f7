#include "text/tokenizer/unigram.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {

namespace {
/// Score of an unknown character below that of the worst token (sentencepiece, unigram_model.cc).
constexpr double kUnkPenalty = 10;

/// Larger scratch buffers are freed after use.
constexpr size_t kMaxRetainedNodes = 1 << 16;

ByteTrie build_trie(const Vocabulary& vocabulary, const std::vector<bool>& is_matchable) {
  std::vector<std::pair<std::string_view, int32_t>> entries;
  for (text::TokenId id = 0; id < vocabulary.end_id(); ++id) {
    if (is_matchable[id]) entries.emplace_back(vocabulary.id_to_token(id), id);
  }
  return ByteTrie(std::move(entries));
}
}  // namespace

/// The best segmentation of the word up to a position.
struct Unigram::Node {
  text::TokenId token = kNoToken;  ///< its last token
  int32_t start = -1;              ///< start of that token; -1: unreachable so far
  double score = 0;
};

struct Unigram::Scratch : Model::Scratch {
  std::vector<Node> ends;
  std::vector<std::string_view> tokens;
};

Unigram::Unigram(Vocabulary vocabulary, std::vector<double> scores,
                 const std::vector<bool>& is_matchable, std::optional<text::TokenId> unknown,
                 bool byte_fallback)
    : Model(std::move(vocabulary)),
      trie_(build_trie(this->vocabulary(), is_matchable)),
      scores_(std::move(scores)),
      unk_id_(unknown),
      unk_score_(std::numeric_limits<double>::infinity()) {
  for (const double score : scores_) unk_score_ = std::min(unk_score_, score);
  unk_score_ -= kUnkPenalty;
  for (int byte = 0; byte_fallback && byte < 256; ++byte) {
    bytes_.push_back(this->vocabulary().find(fmt::format("<0x{:02X}>", byte)));
  }
}

std::unique_ptr<Unigram> Unigram::from_json(const json::Node& node) {
  const json::Node list = node["vocab"];
  size_t bytes = 0;
  for (const json::value& entry : list.array()) {
    const auto* pair = entry.if_array();
    if (!pair || pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_number()) {
      list.fail("each entry must be [\"token\", score]");
    }
    bytes += (*pair)[0].get_string().size();
  }
  if (list.array().size() > kMaxTokenId)
    list.fail(fmt::format("has more than {} entries", kMaxTokenId));
  Vocabulary vocabulary(list.array().size(), bytes);
  std::vector<double> scores;
  for (const json::value& entry : list.array()) {
    vocabulary.add(entry.get_array()[0].get_string(), static_cast<text::TokenId>(scores.size()));
    scores.push_back(entry.get_array()[1].to_number<double>());
  }
  std::optional<text::TokenId> unknown;
  if (const auto id = node.find("unk_id")) {
    unknown = static_cast<text::TokenId>(id->integer(0, static_cast<int64_t>(scores.size()) - 1));
  }
  const std::vector<bool> is_matchable(scores.size(), true);
  return std::make_unique<Unigram>(std::move(vocabulary), std::move(scores), is_matchable, unknown,
                                   node.boolean_or("byte_fallback", false));
}

std::unique_ptr<Model::Scratch> Unigram::make_scratch() const {
  return std::make_unique<Scratch>();
}

text::TokenId Unigram::require_unk_id() const {
  if (!unk_id_)
    throw Error(
        "tokenizer",
        "the text contains a character outside the vocabulary, and there is no unknown token");
  return *unk_id_;
}

// Viterbi over byte positions; one trie search finds all tokens that start at a position.
void Unigram::find_best_path(std::string_view word, std::vector<Node>& ends) const {
  ends.assign(word.size() + 1, {});
  for (size_t start = 0; start < word.size();) {
    const double score_here = ends[start].score;
    const size_t character = text::unicode::length_of(word[start]);
    bool character_is_token = false;
    const auto relax = [&](Node& end, text::TokenId token, double score) {
      if (end.start >= 0 && score <= end.score) return;
      end = {token, static_cast<int32_t>(start), score};
    };
    trie_.for_each_prefix(word.substr(start), [&](size_t length, text::TokenId token) {
      relax(ends[start + length], token, score_here + scores_[token]);
      character_is_token |= length == character;
    });
    if (!character_is_token) {
      Node& end = ends[start + character];
      if (end.start < 0 || score_here + unk_score_ > end.score) {
        relax(end, require_unk_id(), score_here + unk_score_);
      }
    }
    start += character;
  }
}

void Unigram::encode(std::string_view word, Model::Scratch& base,
                     std::vector<text::TokenId>& out) const {
  if (word.size() > INT32_MAX) throw Error("text", "a single word exceeds 2 GiB");
  auto& scratch = static_cast<Scratch&>(base);
  find_best_path(word, scratch.ends);
  // Backtrack from the end, fusing adjacent unknown characters.
  scratch.tokens.clear();
  bool fusing = false;
  for (size_t end = word.size(); end > 0;) {
    const Node& node = scratch.ends[end];
    const std::string_view token = word.substr(node.start, end - node.start);
    const bool is_unknown = unk_id_ && node.token == *unk_id_;
    if (fusing && is_unknown) {
      scratch.tokens.back() = {token.data(), token.size() + scratch.tokens.back().size()};
    } else {
      scratch.tokens.push_back(token);
    }
    fusing = is_unknown;
    end = node.start;
  }
  for (auto token = scratch.tokens.rbegin(); token != scratch.tokens.rend(); ++token) {
    append_ids(*token, out);
  }
  if (scratch.ends.capacity() > kMaxRetainedNodes) scratch.ends = {};
}

void Unigram::append_ids(std::string_view text, std::vector<text::TokenId>& out) const {
  if (const text::TokenId id = vocabulary().find(text); id != kNoToken) {
    out.push_back(id);
    return;
  }
  const auto byte_token = [&](char byte) { return bytes_[static_cast<uint8_t>(byte)]; };
  const bool fallback = !bytes_.empty() && std::all_of(text.begin(), text.end(), [&](char byte) {
    return byte_token(byte) != kNoToken;
  });
  if (fallback) {
    for (const char byte : text) out.push_back(byte_token(byte));
  } else {
    out.push_back(require_unk_id());
  }
}

}  // namespace mxgpt::tokenizer
