#include "text/tokenizer/model.h"

#include <fmt/format.h>

#include "base/escape.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/unigram.h"
#include "text/tokenizer/word_level.h"
#include "text/tokenizer/word_piece.h"

namespace mxgpt::tokenizer {
namespace {

/// Older files lack the field; their type is inferred from other fields, as in the `tokenizers`
/// package.
std::string_view model_type(const json::Node& node) {
  if (const auto type = node.find("type")) return type->string();
  if (node.find("merges")) return "BPE";
  if (node.find("max_input_chars_per_word")) return "WordPiece";
  return node["vocab"].raw().is_array() ? "Unigram" : "WordLevel";
}

}  // namespace

std::unique_ptr<Model> Model::from_json(const json::Node& node, bool byte_level) {
  const std::string_view type = model_type(node);
  if (type == "BPE") return Bpe::from_json(node, byte_level);
  if (type == "Unigram") return Unigram::from_json(node);
  if (type == "WordPiece") return WordPiece::from_json(node);
  if (type == "WordLevel") return WordLevel::from_json(node);
  node.fail(fmt::format("unknown type '{}'; expected BPE, Unigram, WordPiece or WordLevel",
                        escape_for_terminal(type)));
}

bool Model::supports_raw_bytes(const json::Node& node) {
  return model_type(node) == "BPE" && node.string_or("continuing_subword_prefix", "").empty() &&
         node.string_or("end_of_word_suffix", "").empty();
}

Vocabulary read_vocabulary(const json::Node& node) {
  const json::object& tokens = node.object();
  size_t bytes = 0;
  for (const auto& entry : tokens) bytes += entry.key().size();
  Vocabulary vocabulary(tokens.size(), bytes);
  for (const auto& entry : tokens) {
    const int64_t* id = entry.value().if_int64();
    if (!id || *id < 0 || *id > kMaxTokenId) {
      node.fail(fmt::format("the id of '{}' must be an integer from 0 to {}, but is {}",
                            escape_for_terminal(entry.key()), kMaxTokenId,
                            escape_for_terminal(json::serialize(entry.value()))));
    }
    vocabulary.add(entry.key(), static_cast<text::TokenId>(*id));
  }
  return vocabulary;
}

}  // namespace mxgpt::tokenizer
