#include "text/tokenizer/word_level.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/escape.h"

namespace mxgpt::tokenizer {

WordLevel::WordLevel(Vocabulary vocabulary, std::string unknown)
    : Model(std::move(vocabulary)), unk_token_(std::move(unknown)) {}

std::unique_ptr<WordLevel> WordLevel::from_json(const json::Node& node) {
  return std::make_unique<WordLevel>(read_vocabulary(node["vocab"]),
                                     std::string(node["unk_token"].string()));
}

void WordLevel::encode(std::string_view word, Scratch&, std::vector<text::TokenId>& out) const {
  text::TokenId id = vocabulary().find(word);
  if (id == kNoToken) id = vocabulary().find(unk_token_);
  if (id == kNoToken) {
    throw Error("tokenizer", fmt::format("the unknown token '{}' is not in the vocabulary",
                                         escape_for_terminal(unk_token_)));
  }
  out.push_back(id);
}

}  // namespace mxgpt::tokenizer
