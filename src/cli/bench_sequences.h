// Sequences on one runner, fed with made-up tokens and rewound, for measuring.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/kv_cache.h"
#include "runtime/model.h"
#include "runtime/runner.h"

namespace mxgpt::cli {

/// The model outlives it.
class BenchSequences {
 public:
  struct Limits {
    int64_t sequences = 1;      ///< at once
    int64_t context = 0;        ///< longest that one gets
    int64_t max_extension = 0;  ///< most tokens that one takes between two calls of rewind()
  };

  /// `options` without pages and logit rows, which follow from the limits.
  BenchSequences(const runtime::Model& model, runtime::RunnerOptions options, const Limits& limits);

  /// What the runner was made for.
  const runtime::RunnerOptions& options() const { return options_; }

  /// The token that every sequence has at a position: the same in each run, spread over the
  /// vocabulary.
  int32_t token_at(int64_t sequence, int64_t position) const;

  /// Extends one sequence to `size` tokens; it can be rewound to there from then on. `each` is
  /// called with the tokens of every step.
  void fill(int64_t sequence, int64_t size, const std::function<void(int64_t tokens)>& each);
  /// Extends one sequence, with the logits of the last token.
  void prefill(int64_t sequence, int64_t tokens);
  /// Extends the first `sequences` by one token each, with logits.
  void decode(int64_t sequences);
  /// Gives up what came after position `end`: no further back than where it was filled or rewound
  /// to, or to 0.
  void rewind(int64_t sequence, int64_t end);

 private:
  struct Sequence {
    std::vector<engine::SequencePages> groups;  ///< by KvGroup
    int64_t size = 0;
  };

  void step(int64_t first, int64_t sequences, int64_t rows_each, bool logits);

  const model::Config& config_;
  runtime::RunnerOptions options_;
  int64_t table_stride_;                             ///< of the tables
  std::vector<int32_t> tables_[backend::kKvGroups];  ///< [sequences][stride]
  std::vector<engine::PagePool> pools_;              ///< by KvGroup
  std::vector<Sequence> sequences_;
  std::unique_ptr<runtime::Runner> runner_;
};

}  // namespace mxgpt::cli
