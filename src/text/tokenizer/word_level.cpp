#include "text/tokenizer/word_level.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/printable.h"

namespace mxgpt::tokenizer {

WordLevel::WordLevel(Vocabulary vocabulary, std::string unknown)
    : Model(std::move(vocabulary)), unknown_(std::move(unknown)) {}

std::unique_ptr<WordLevel> WordLevel::from_json(const json::Node& node) {
  return std::make_unique<WordLevel>(read_vocabulary(node["vocab"]),
                                     std::string(node["unk_token"].string()));
}

void WordLevel::encode(std::string_view piece, Scratch&, std::vector<TokenId>& out) const {
  TokenId id = vocabulary().find(piece);
  if (id == kNoToken) id = vocabulary().find(unknown_);
  if (id == kNoToken) {
    throw Error("tokenizer", fmt::format("the unknown token '{}' is not in the vocabulary",
                                         printable(unknown_)));
  }
  out.push_back(id);
}

}  // namespace mxgpt::tokenizer
