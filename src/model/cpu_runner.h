// Runs an architecture's forward on the CPU backend, in memory laid out once.
#pragma once

#include <memory>
#include <type_traits>
#include <vector>

#include "backend/cpu/backend.h"
#include "base/arena.h"
#include "base/check.h"
#include "model/runner.h"
#include "model/step_memory.h"
#include "model/weights.h"

namespace mxgpt {

/// Owns StepMemory and the backend for one model.
class CpuMemory {
 public:
  CpuMemory(const Config& config, const RunnerOptions& options);

  /// What the constructor allocates, without allocating it: for plans.
  static size_t workspace_bytes(const Config& config, const RunnerOptions& options);

  cpu::Backend backend;
  StepMemory step;

 private:
  std::vector<RopeFrequencies> frequencies_;  ///< of each Rotary
  Arena arena_;                               ///< all of `step` but the cache
  std::vector<PageMemory> kv_;                ///< keys and values of each layer
};

template <class Forward>
class CpuRunner final : public Runner {
 public:
  CpuRunner(const Config& config, const Weights& weights, const RunnerOptions& options,
            Forward forward)
      : config_(config),
        weights_(weights),
        max_logit_rows_(options.max_logit_rows),
        memory_(config_, options),
        forward_(forward) {}

  std::span<const float> step(const Batch& batch) override {
    const auto wanted = static_cast<int64_t>(batch.logit_rows.size());
    MXGPT_CHECK(wanted <= max_logit_rows_, "{} logit rows, planned {}", wanted, max_logit_rows_);
    forward_(memory_.backend, config_, weights_, memory_.step, batch);
    return {memory_.step.logits, static_cast<size_t>(wanted * config_.vocabulary)};
  }

 private:
  const Config& config_;
  const Weights& weights_;
  int64_t max_logit_rows_;
  CpuMemory memory_;
  Forward forward_;
};

}  // namespace mxgpt
