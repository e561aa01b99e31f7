// Writes the tokenizer of a checkpoint as GGUF metadata that gives the same ids in any GGUF
// program.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "io/gguf_writer.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::text {

/// Result of an export, including what GGUF could not express.
struct TokenizerExport {
  int64_t num_tokens = 0;  ///< defined by the tokenizer; other embedding rows are unused tokens
  bool has_chat_template = false;
  bool nfc_dropped = false;  ///< NFC normalization was dropped: GGUF cannot express it
  std::vector<TokenId> dropped_stop_tokens;  ///< GGUF holds at most three
};

/// Writes `tokenizer.*` from tokenizer.json and, if present, tokenizer_config.json,
/// generation_config.json, config.json and chat_template.jinja. `vocabulary` is the number of
/// embedding rows; `stop_tokens` end a response, the main one first. Throws Error for a tokenizer
/// that GGUF's "gpt2" model cannot express, because ids would differ. The exception is NFC: it is
/// dropped and reported, as in all GGUF files of Qwen, since nearly all text is already composed.
TokenizerExport export_tokenizer(const std::filesystem::path& checkpoint, int64_t vocabulary,
                                 std::span<const TokenId> stop_tokens, io::GgufWriter& out);

}  // namespace mxgpt::text
