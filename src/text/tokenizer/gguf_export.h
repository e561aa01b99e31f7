// The tokenizer of a checkpoint as metadata of a GGUF file, from which every GGUF program gets the
// same ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "io/gguf_writer.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::text {

/// What of a tokenizer there was no place for.
struct TokenizerExport {
  int64_t num_tokens =
      0;  ///< defined by the tokenizer; the embedding's other rows are unused tokens
  bool has_chat_template = false;
  bool nfc_dropped = false;  ///< the tokenizer composes characters first, which no GGUF file says
  std::vector<TokenId> dropped_stop_tokens;  ///< GGUF names three at most
};

/// Writes `tokenizer.*` from tokenizer.json and, where they are, tokenizer_config.json,
/// generation_config.json, config.json and chat_template.jinja. `vocabulary` is the number of rows
/// of the embedding; `stop_tokens` end an answer, the main one first. Throws Error for a tokenizer
/// that GGUF's "gpt2" kind cannot express: the file would give other ids. NFC is left out with a
/// note all the same, as in all GGUF files of Qwen: few texts are not composed already.
TokenizerExport export_tokenizer(const std::filesystem::path& checkpoint, int64_t vocabulary,
                                 std::span<const TokenId> stop_tokens, io::GgufWriter& out);

}  // namespace mxgpt::text
