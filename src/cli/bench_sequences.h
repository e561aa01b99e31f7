// Sequences of synthetic tokens on one runner, which can be rewound between measurements.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/kv_cache.h"
#include "runtime/model.h"
#include "runtime/runner.h"

namespace mxgpt::cli {

/// The model must outlive this object.
class BenchSequences {
 public:
  struct Limits {
    int64_t sequences = 1;      ///< in one batch
    int64_t context = 0;        ///< maximum tokens per sequence
    int64_t max_extension = 0;  ///< maximum tokens per sequence between two calls of rewind()
  };

  /// Page counts and logit rows in `options` are ignored; they follow from the limits.
  BenchSequences(const runtime::Model& model, runtime::RunnerOptions options, const Limits& limits);

  /// The options that the runner was created with.
  const runtime::RunnerOptions& options() const { return options_; }

  /// Token of a sequence at a position: deterministic, spread over the vocabulary.
  int32_t token_at(int64_t sequence, int64_t position) const;

  /// Extends one sequence to `size` tokens, which becomes a rewind point. Calls `each` with the
  /// tokens of every step.
  void fill(int64_t sequence, int64_t size, const std::function<void(int64_t tokens)>& each);
  /// Extends one sequence; computes the logits of the last token.
  void prefill(int64_t sequence, int64_t tokens);
  /// Extends each of the first `sequences` by one token, with logits.
  void decode(int64_t sequences);
  /// Drops the tokens from position `end` on. `end` must not precede the last fill() or rewind(),
  /// unless it is 0.
  void rewind(int64_t sequence, int64_t end);

 private:
  struct Sequence {
    std::vector<engine::SequencePages> groups;  ///< by KvGroup
    int64_t size = 0;
  };

  void step(int64_t first, int64_t sequences, int64_t rows_each, bool logits);

  const model::Config& config_;
  runtime::RunnerOptions options_;
  int64_t table_stride_;                             ///< row stride of the tables
  std::vector<int32_t> tables_[backend::kKvGroups];  ///< [sequences][stride]
  std::vector<engine::PagePool> pools_;              ///< by KvGroup
  std::vector<Sequence> sequences_;
  std::unique_ptr<runtime::Runner> runner_;
};

}  // namespace mxgpt::cli
