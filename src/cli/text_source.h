// The text that a command scores or learns from: options, and the way to token ids.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace mxgpt::cli {

/// From a JSON file: an array of arrays of token ids, none empty.
std::vector<std::vector<int32_t>> read_ids(const std::filesystem::path& path);

struct TokenizedText {
  std::vector<std::vector<int32_t>> documents;  ///< token ids
  /// What begins every piece of text for this model (<s>, [CLS]); not part of `documents`.
  std::optional<int32_t> bos;
};

/// `--text` and `--ids`, one of which is needed.
struct TextSource {
  std::filesystem::path text, ids;

  void declare(CLI::App& command);
  bool is_set() const { return !text.empty() || !ids.empty(); }
  const std::filesystem::path& path() const { return text.empty() ? ids : text; }
  /// With the tokenizer of a tokenizer.json, a checkpoint or a GGUF file. A text is one document; a
  /// .jsonl file has one a line, in the field "text". Control tokens spelled out stay text.
  TokenizedText read(const std::filesystem::path& tokenizer) const;
};

/// `--chunk`, the length of the pieces that a text is cut into, and `--max-tokens`, how many of
/// their tokens are scored (0: all).
void declare_chunking(CLI::App& command, int64_t& chunk, int64_t& max_tokens);

}  // namespace mxgpt::cli
