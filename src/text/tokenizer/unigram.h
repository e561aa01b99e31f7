// Unigram language model (Kudo 2018): of all ways to spell a piece with tokens, the one with the
// highest sum of scores.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer/byte_trie.h"
#include "text/tokenizer/model.h"

namespace mxgpt::tokenizer {

class Unigram final : public Model {
 public:
  /// `scores` by id, as long as the vocabulary; likewise `spelled`, whether text can spell the
  /// token.
  Unigram(Vocabulary vocabulary, std::vector<double> scores, const std::vector<bool>& spelled,
          std::optional<TokenId> unknown, bool byte_fallback);
  static std::unique_ptr<Unigram> from_json(const json::Node& node);

  std::string_view kind() const override { return "Unigram"; }
  std::unique_ptr<Model::Scratch> make_scratch() const override;
  void encode(std::string_view piece, Model::Scratch& scratch,
              std::vector<TokenId>& out) const override;

 private:
  struct Node;
  struct Scratch;

  TokenId unknown() const;
  void search(std::string_view piece, std::vector<Node>& ends) const;
  void append_spelled(std::string_view spelled, std::vector<TokenId>& out) const;

  ByteTrie trie_;
  std::vector<double> scores_;
  std::optional<TokenId> unknown_;
  double unknown_score_;
  std::vector<TokenId>
      bytes_;  ///< tokens <0x00> to <0xFF>, kNoToken where missing; empty: no byte fallback
};

}  // namespace mxgpt::tokenizer
