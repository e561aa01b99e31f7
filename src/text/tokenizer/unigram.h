// Unigram language model (Kudo 2018): the segmentation of a word into tokens with the highest sum
// of scores.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer/byte_trie.h"
#include "text/tokenizer/model.h"

namespace mxgpt::tokenizer {

class Unigram final : public Model {
 public:
  /// `scores` and `is_matchable` (whether text can produce the token) have one entry per id.
  Unigram(Vocabulary vocabulary, std::vector<double> scores, const std::vector<bool>& is_matchable,
          std::optional<text::TokenId> unknown, bool byte_fallback);
  static std::unique_ptr<Unigram> from_json(const json::Node& node);

  std::string_view kind() const override { return "Unigram"; }
  std::unique_ptr<Model::Scratch> make_scratch() const override;
  void encode(std::string_view word, Model::Scratch& scratch,
              std::vector<text::TokenId>& out) const override;

 private:
  struct Node;
  struct Scratch;

  text::TokenId require_unk_id() const;
  void find_best_path(std::string_view word, std::vector<Node>& ends) const;
  void append_ids(std::string_view text, std::vector<text::TokenId>& out) const;

  ByteTrie trie_;
  std::vector<double> scores_;
  std::optional<text::TokenId> unk_id_;
  double unk_score_;
  std::vector<text::TokenId>
      bytes_;  ///< tokens <0x00> to <0xFF>, kNoToken if missing; empty: no byte fallback
};

}  // namespace mxgpt::tokenizer
