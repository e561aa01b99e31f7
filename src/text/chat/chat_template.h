// The chat template in a model's files: a Jinja program, stored as text. It is never executed, only
// recognized (known_chat_templates.h).
#pragma once

#include <filesystem>
#include <string>

#include "io/gguf_metadata.h"

namespace mxgpt::text {

struct ChatTemplate {
  std::string text;  ///< empty: the model has none
  std::string bos;   ///< text of bos_token; empty: none

  /// Reads chat_template.jinja, or else "chat_template" in tokenizer_config.json; if that holds
  /// several, the one named "default". Throws Error for malformed files.
  static ChatTemplate from_checkpoint(const std::filesystem::path& directory);
  /// Reads tokenizer.chat_template.
  static ChatTemplate from_gguf(const io::GgufMetadata& metadata);
};

}  // namespace mxgpt::text
