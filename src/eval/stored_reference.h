// Distributions that another program computed and wrote down, as a reference: a safetensors file
// that holds, for sequence i = 0, 1, …,
//   i.ids           I32 [tokens]          what was fed; `--ids` may give it instead
//   i.top_ids       I32 [tokens, 8]       the most likely tokens after each, best first
//   i.top_logprobs  F32 [tokens, 8]
//   i.last_logits   F32 [vocabulary]      after the last token; optional
//   i.logits        F32 [tokens, vocabulary]; optional, and then the others may be absent
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
  /// Throws Error for a file that is not as above, or does not fit the vocabulary. `ids` is used
  /// where the file has none.
  StoredReference(const std::filesystem::path& path, int64_t vocabulary, const Documents& ids);

  /// One for each sequence.
  const std::vector<Chunk>& chunks() const { return chunks_; }
  /// Whether all positions have logits; if not, all have top().
  bool has_full_logits() const { return has_full_logits_; }

  /// Position `position` of sequence `sequence`.
  TopLogprobs top_tokens(size_t sequence, size_t position) const;
  /// Copied to `logits`. Throws Error if one is not finite.
  void logits(size_t sequence, size_t position, std::vector<float>& logits) const;
  /// After the last token; false if there are none.
  bool last_logits(size_t sequence, std::vector<float>& logits) const;
  /// What the file says of its origin ("source" of its metadata); may be empty.
  std::string source() const;

 private:
  struct Sequence {
    std::vector<int32_t> top_ids;     // [tokens, kTop]
    std::vector<float> top_logprobs;  // [tokens, kTop]
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
