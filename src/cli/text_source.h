// Text to score or calibrate on: options, loading and tokenization.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "cli/options.h"

namespace mxgpt::cli {

/// Reads a JSON file: an array of non-empty arrays of token ids.
std::vector<std::vector<int32_t>> read_ids(const std::filesystem::path& path);

struct TokenizedText {
  std::vector<std::vector<int32_t>> documents;  ///< token ids
  /// Token that precedes every chunk for this model (<s>, [CLS]); not part of `documents`.
  std::optional<int32_t> bos;
};

/// `--text` or `--ids`.
struct TextSource {
  std::filesystem::path text, ids;

  void declare(CommandOptions& command);
  bool is_set() const { return !text.empty() || !ids.empty(); }
  const std::filesystem::path& path() const { return text.empty() ? ids : text; }
  /// Tokenizes the text with the tokenizer of a tokenizer.json, checkpoint or GGUF file. A text
  /// file is one document; a .jsonl file has one per line, in the field "text". Control tokens in
  /// the text are not parsed.
  TokenizedText read(const std::filesystem::path& tokenizer) const;
};

/// `--chunk`, the chunk length, and `--max-tokens`, the limit of scored tokens (0: none).
void declare_chunking(CommandOptions& command, int64_t& chunk, int64_t& max_tokens);

}  // namespace mxgpt::cli
