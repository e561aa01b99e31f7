// Stored reference: next-token distributions computed by another program, in a safetensors file.
// For sequence i = 0, 1, …
//   i.ids           I32 [tokens]          input tokens; may be given separately instead
//   i.top_ids       I32 [tokens, 8]       most likely next tokens, best first
//   i.top_logprobs  F32 [tokens, 8]
//   i.last_logits   F32 [vocabulary]      at the last token; optional
//   i.logits        F32 [tokens, vocabulary]; optional; makes the others optional
// `mxgpt logits` writes such files.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "eval/logit_metrics.h"
#include "eval/teacher_forcing.h"
#include "io/safetensors.h"

namespace mxgpt::eval {

class StoredReference {
 public:
  /// Throws Error if the file does not have this layout or does not match the vocabulary. `ids` is
  /// used if the file has no token ids.
  StoredReference(const std::filesystem::path& path, int64_t vocabulary, const Documents& ids);

  /// One chunk per sequence.
  const std::vector<Chunk>& chunks() const { return chunks_; }
  /// True if every position has logits; else every position has top_tokens().
  bool has_full_logits() const { return has_full_logits_; }

  /// Top tokens at a position of a sequence.
  TopLogprobs top_tokens(size_t sequence, size_t position) const;
  /// Copies the logits at a position. Throws Error if one is not finite.
  void logits(size_t sequence, size_t position, std::vector<float>& logits) const;
  /// Copies the logits at the last token; returns false if the file has none.
  bool last_logits(size_t sequence, std::vector<float>& logits) const;
  /// Origin of the file ("source" of its metadata); may be empty.
  std::string source() const;

 private:
  struct Sequence {
    std::vector<int32_t> top_ids;     // [tokens, kTopTokens]
    std::vector<float> top_logprobs;  // [tokens, kTopTokens]
    const io::FileTensor* logits = nullptr;
    const io::FileTensor* last_logits = nullptr;
  };
  const io::FileTensor* find(size_t sequence, std::string_view field, std::string_view type,
                             const std::vector<int64_t>& shape) const;
  void read_top(size_t sequence, const io::FileTensor& ids, const io::FileTensor& logprobs);
  void copy_row(const io::FileTensor& tensor, size_t row, std::vector<float>& logits) const;

  std::string path_;
  int64_t vocabulary_;
  io::SafetensorsFile file_;
  std::vector<Chunk> chunks_;
  std::vector<Sequence> sequences_;
  bool has_full_logits_ = true;
};

}  // namespace mxgpt::eval
