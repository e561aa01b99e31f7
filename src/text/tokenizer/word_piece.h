#pragma once

#include <string>

#include "text/tokenizer/model.h"

namespace mxgpt::tokenizer {

/// Greedy longest-match segmentation (BERT). A word that cannot be segmented, or is too long,
/// becomes the unknown token.
class WordPiece final : public Model {
 public:
  struct Options {
    std::string unk_token;
    std::string continuing_subword_prefix;  ///< of tokens within a word: "##"
    size_t max_input_chars_per_word = 100;  ///< longer words become the unknown token
  };

  WordPiece(Vocabulary vocabulary, Options options);
  static std::unique_ptr<WordPiece> from_json(const json::Node& node);

  std::string_view kind() const override { return "WordPiece"; }
  void encode(std::string_view word, Scratch& scratch,
              std::vector<text::TokenId>& out) const override;

 private:
  Options options_;
};

}  // namespace mxgpt::tokenizer
