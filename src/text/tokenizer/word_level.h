#pragma once

#include <string>

#include "text/tokenizer/model.h"

namespace mxgpt::tokenizer {

/// Each word is one token, or the unknown token.
class WordLevel final : public Model {
 public:
  WordLevel(Vocabulary vocabulary, std::string unknown);
  static std::unique_ptr<WordLevel> from_json(const json::Node& node);

  std::string_view kind() const override { return "WordLevel"; }
  void encode(std::string_view word, Scratch& scratch,
              std::vector<text::TokenId>& out) const override;

 private:
  std::string unk_token_;
};

}  // namespace mxgpt::tokenizer
