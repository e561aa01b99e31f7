#include "text/chat/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/escape.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "text/unicode.h"

namespace mxgpt::text {

namespace {

constexpr size_t kMaxBytes = 16 << 20;

std::string read_text(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  if (text.size() > kMaxBytes || !unicode::is_valid(text)) {
    throw Error(path.string(),
                fmt::format("is not UTF-8 text of at most {}", format_bytes(kMaxBytes)),
                "remove it or fetch the checkpoint again");
  }
  return std::string(text);
}

/// The field is a string, or a list of named templates.
std::string default_template(const json::Node& field) {
  if (!field.raw().is_array()) return std::string(field.string());
  for (size_t i = 0; i < field.array().size(); ++i) {
    const json::Node entry = field.at(i);
    if (entry["name"].string() == "default") return std::string(entry["template"].string());
  }
  return {};
}

}  // namespace

ChatTemplate ChatTemplate::from_checkpoint(const std::filesystem::path& directory) {
  ChatTemplate found;
  if (const auto path = directory / "tokenizer_config.json"; std::filesystem::exists(path)) {
    const json::value document = json::parse_file(path);
    const json::Node config(document, path.string() + ":");
    if (const auto field = config.find("chat_template")) found.text = default_template(*field);
    if (const auto bos = config.find("bos_token"))
      found.bos = (bos->raw().is_object() ? (*bos)["content"] : *bos).string();
  }
  if (const auto path = directory / "chat_template.jinja"; std::filesystem::exists(path))
    found.text = read_text(path);
  return found;
}

ChatTemplate ChatTemplate::from_gguf(const io::GgufMetadata& metadata) {
  ChatTemplate found;
  unicode::append_replacing_invalid(found.text, metadata.string_or("tokenizer.chat_template", ""));
  constexpr std::string_view kBos = "tokenizer.ggml.bos_token_id";
  if (metadata.contains(kBos) && metadata.contains("tokenizer.ggml.tokens")) {
    const io::GgufStrings tokens = metadata.strings("tokenizer.ggml.tokens");
    const auto id = metadata.integer(kBos, 0, static_cast<int64_t>(tokens.size()) - 1);
    unicode::append_replacing_invalid(found.bos, *std::next(tokens.begin(), id));
  }
  return found;
}

}  // namespace mxgpt::text
