// The chat template that a model's files carry: a Jinja program as text. It is never run, only
// recognised (chat_format.h).
#pragma once

#include <filesystem>
#include <string>

#include "io/gguf_metadata.h"

namespace mxgpt::text {

struct ChatTemplate {
  std::string text;  ///< empty: the model has none
  std::string bos;   ///< what the template calls bos_token; empty: none

  /// chat_template.jinja, or else "chat_template" of tokenizer_config.json: of several the one
  /// named "default". Throws Error for files that are malformed.
  static ChatTemplate from_checkpoint(const std::filesystem::path& directory);
  /// tokenizer.chat_template.
  static ChatTemplate from_gguf(const io::GgufMetadata& metadata);
};

}  // namespace mxgpt::text
