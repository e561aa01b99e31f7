#include "text/tokenizer/gguf_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/escape.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "text/chat/chat_template.h"
#include "text/tokenizer/gguf_pre_tokenizers.h"
#include "text/tokenizer/gguf_vocabulary.h"
#include "text/unicode.h"

namespace mxgpt::text {

namespace {

namespace fs = std::filesystem;

using Type = tokenizer::GgufVocabulary::TokenType;

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

/// A JSON file of the checkpoint that may be missing.
class OptionalJson {
 public:
  explicit OptionalJson(const fs::path& path) : where_(path.string() + ":") {
    if (fs::exists(path)) document_ = json::parse_file(path);
  }
  std::optional<json::Node> find(std::string_view key) const {
    return document_.is_null() ? std::nullopt : json::Node(document_, where_).find(key);
  }

 private:
  std::string where_;
  json::value document_;
};

/// Throws unless the field, if present, has the only value that GGUF can express.
void require(const json::Node& node, std::string_view key, const json::value& value) {
  const auto field = node.find(key);
  if (!field || field->raw() == value) return;
  field->fail(fmt::format("is {}, which a GGUF file cannot express; only {} can be converted",
                          escape_for_terminal(json::serialize(field->raw())),
                          json::serialize(value)));
}

/// The GGUF name of the pre-tokenizer; the name also implies ignore_merges.
std::string_view pre_tokenizer_name(const json::Node& tokenizer) {
  const json::Node sequence = tokenizer["pre_tokenizer"];
  std::vector<std::string_view> splits;
  bool known = sequence["type"].string() == "Sequence";
  if (known) {
    const json::Node parts = sequence["pretokenizers"];
    for (size_t i = 0; i < parts.array().size(); ++i) {
      const json::Node part = parts.at(i);
      if (i + 1 == parts.array().size()) {
        known = part["type"].string() == "ByteLevel" && !part.boolean_or("use_regex", true) &&
                !part.boolean_or("add_prefix_space", true);
      } else if (part["type"].string() == "Split") {
        require(part, "behavior", "Isolated");
        require(part, "invert", false);
        splits.push_back(part["pattern"]["Regex"].string());
      } else {
        known = false;
        break;
      }
    }
  }
  const bool ignore_merges = tokenizer["model"].boolean_or("ignore_merges", false);
  const std::string_view name =
      known ? tokenizer::gguf_pre_tokenizer_name(splits, ignore_merges) : "";
  if (name.empty()) {
    sequence.fail(fmt::format("has no GGUF name with ignore_merges {}: {}", ignore_merges,
                              escape_for_terminal(json::serialize(sequence.raw()))));
  }
  return name;
}

/// Whether the only normalizer is NFC, as in Qwen's tokenizer.
bool has_nfc_normalizer(const json::Node& tokenizer) {
  const auto normalizer = tokenizer.find("normalizer");
  return normalizer && normalizer->raw() == json::value({{"type", "NFC"}});
}

/// Whether the post-processor prepends BOS. Throws if it does anything else.
bool adds_bos(const json::Node& root, const Tokenizer& tokenizer, std::optional<TokenId> bos) {
  std::vector<TokenId> without_special = tokenizer.encode("a");
  const std::vector<TokenId> with_special = tokenizer.encode("a", {.add_special_tokens = true});
  if (with_special == without_special) return false;
  if (bos) without_special.insert(without_special.begin(), *bos);
  if (with_special != without_special)
    root["post_processor"].fail("adds tokens other than BOS, which a GGUF file cannot express");
  return true;
}

void require_expressible(const json::Node& tokenizer) {
  if (!has_nfc_normalizer(tokenizer)) require(tokenizer, "normalizer", nullptr);
  const json::Node model = tokenizer["model"];
  require(model, "type", "BPE");
  for (const char* key : {"dropout", "unk_token"}) require(model, key, nullptr);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    require(model, key, "");
  for (const char* key : {"fuse_unk", "byte_fallback"}) require(model, key, false);
}

/// Merges as "left right".
std::vector<std::string> merge_strings(const json::Node& model) {
  const json::Node merges = model["merges"];
  std::vector<std::string> texts;
  texts.reserve(merges.array().size());
  for (size_t i = 0; i < merges.array().size(); ++i) {
    const json::value& merge = merges.array()[i];
    std::string text;
    if (const auto* joined = merge.if_string()) {  // older files
      text = *joined;
    } else if (const auto* pair = merge.if_array();
               pair && pair->size() == 2 && (*pair)[0].is_string() && (*pair)[1].is_string()) {
      text.append((*pair)[0].get_string()).append(" ").append((*pair)[1].get_string());
    }
    if (std::count(text.begin(), text.end(), ' ') != 1)
      merges.at(i).fail("is not two tokens of a byte-level vocabulary");
    texts.push_back(std::move(text));
  }
  return texts;
}

/// A token named by tokenizer_config.json: "<|end|>" or {"content": "<|end|>", …}.
std::optional<TokenId> named_token(const OptionalJson& config, const std::string& key,
                                   const Tokenizer& tokenizer) {
  const auto field = config.find(key);
  if (!field) return std::nullopt;
  const json::Node content = field->raw().is_object() ? (*field)["content"] : *field;
  const auto id = tokenizer.token_to_id(content.string());
  if (!id)
    content.fail(
        fmt::format("'{}' is not a token of the tokenizer", escape_for_terminal(content.string())));
  return id;
}

/// Writes tokens and their types by id, and the merges.
void add_vocabulary(const json::Node& root, const Tokenizer& tokenizer, int64_t vocabulary,
                    io::GgufWriter& out) {
  std::vector<std::string> tokens(vocabulary);
  std::vector<int32_t> types(vocabulary, Type::kUnused);
  for (TokenId id = 0; id < vocabulary; ++id) {
    tokens[id] = tokenizer.id_to_token(id);
    if (tokens[id].empty()) {
      tokens[id] = fmt::format("[PAD{}]", id);
    } else {
      types[id] = tokenizer.is_special(id) ? Type::kControl : Type::kNormal;
    }
  }
  if (const auto added = root.find("added_tokens")) {
    for (size_t i = 0; i < added->array().size(); ++i) {
      const json::Node token = added->at(i);
      for (const char* key : {"lstrip", "rstrip", "single_word"}) require(token, key, false);
      const auto id = tokenizer.token_to_id(token["content"].string());
      if (id && types[*id] == Type::kNormal) types[*id] = Type::kUserDefined;
    }
  }
  const auto add_strings = [&](const char* key, const std::vector<std::string>& strings) {
    out.add_array<std::string_view>(key,
                                    std::vector<std::string_view>(strings.begin(), strings.end()));
  };
  add_strings("tokenizer.ggml.tokens", tokens);
  out.add_array<int32_t>("tokenizer.ggml.token_type", types);
  add_strings("tokenizer.ggml.merges", merge_strings(root["model"]));
}

/// Searches in the order of llama.cpp's converter: tokenizer_config.json by name, then the other
/// files by id.
std::optional<int64_t> special_id(const fs::path& checkpoint, const OptionalJson& config,
                                  const std::string& name, const Tokenizer& tokenizer,
                                  int64_t vocabulary) {
  if (const auto id = named_token(config, name, tokenizer)) return id;
  for (const char* file : {"generation_config.json", "config.json"}) {
    const OptionalJson document(checkpoint / file);
    if (const auto id = document.find(name + "_id")) return id->integer(0, vocabulary - 1);
  }
  return std::nullopt;
}

}  // namespace

TokenizerExport export_tokenizer(const fs::path& checkpoint, int64_t vocabulary,
                                 std::span<const TokenId> stop_tokens, io::GgufWriter& out) {
  const fs::path path = checkpoint / "tokenizer.json";
  if (!fs::exists(path)) {
    throw Error(path.string(), "not found; a GGUF file needs a tokenizer",
                "download the complete checkpoint");
  }
  const MappedFile file(path);
  const json::value document = json::parse(text_of(file), path.string());
  const json::Node root(document, path.string() + ":");
  require_expressible(root);
  const std::string_view pre = pre_tokenizer_name(root);
  const auto tokenizer = Tokenizer::from_json(text_of(file), path.string());
  if (tokenizer->vocab_size() > vocabulary) {
    throw Error(path.string(),
                fmt::format("has {} tokens, but the embedding has only {} rows",
                            tokenizer->vocab_size(), vocabulary),
                "use the tokenizer of this model");
  }
  out.add<std::string_view>("tokenizer.ggml.model", "gpt2");
  out.add<std::string_view>("tokenizer.ggml.pre", pre);
  add_vocabulary(root, *tokenizer, vocabulary, out);

  TokenizerExport result;
  result.num_tokens = tokenizer->vocab_size();
  result.nfc_dropped = has_nfc_normalizer(root);
  const OptionalJson config(checkpoint / "tokenizer_config.json");
  const auto add_id = [&](const char* key, int64_t id) {
    out.add<uint32_t>(key, static_cast<uint32_t>(id));
  };
  const auto special = [&](const char* name) {
    return special_id(checkpoint, config, name, *tokenizer, vocabulary);
  };
  const auto bos = special("bos_token");
  if (bos) add_id("tokenizer.ggml.bos_token_id", *bos);
  // End of response, end of text, and end of a message that waits for a tool result.
  constexpr const char* kStops[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                    "tokenizer.ggml.eom_token_id"};
  for (size_t i = 0; i < stop_tokens.size(); ++i) {
    if (stop_tokens[i] >= vocabulary) {
      throw Error(checkpoint.string(),
                  fmt::format("eos_token_id {} is not a row of the embedding", stop_tokens[i]));
    }
    if (i < std::size(kStops)) {
      add_id(kStops[i], stop_tokens[i]);
    } else {
      result.dropped_stop_tokens.push_back(stop_tokens[i]);
    }
  }
  if (const auto id = special("pad_token")) add_id("tokenizer.ggml.padding_token_id", *id);
  out.add<bool>("tokenizer.ggml.add_bos_token", adds_bos(root, *tokenizer, bos));

  const std::string chat = ChatTemplate::from_checkpoint(checkpoint).text;
  if (!chat.empty()) out.add<std::string_view>("tokenizer.chat_template", chat);
  result.has_chat_template = !chat.empty();
  return result;
}

}  // namespace mxgpt::text
