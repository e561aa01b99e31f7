// Runs an architecture's forward on the CPU backend, in memory laid out once.
#pragma once

#include <memory>
#include <type_traits>
#include <vector>

#include "backend/cpu/backend.h"
#include "base/arena.h"
#include "base/check.h"
#include "model/run_state.h"
#include "model/weights.h"
#include "runtime/runner.h"

namespace mxgpt::runtime {

/// Owns StepMemory and the backend for one model.
class CpuRunState {
 public:
  CpuRunState(const model::Config& config, const RunnerOptions& options);

  /// What the constructor allocates, without allocating it: for plans.
  static size_t workspace_bytes(const model::Config& config, const RunnerOptions& options);

  cpu::CpuBackend backend;
  model::RunState state;

 private:
  std::vector<model::RopeFrequencies> frequencies_;  ///< of each Rotary
  Arena arena_;                                      ///< all of `step` but the cache
  std::vector<PageMemory> kv_;                       ///< keys and values of each layer
};

template <class Forward>
class CpuRunner final : public Runner {
 public:
  CpuRunner(const model::Config& config, const model::Weights& weights,
            const RunnerOptions& options, Forward forward)
      : config_(config),
        weights_(weights),
        max_logit_rows_(options.max_logit_rows),
        state_(config_, options),
        forward_(forward) {}

  std::span<const float> step(const backend::Batch& batch) override {
    const auto requested = static_cast<int64_t>(batch.logit_rows.size());
    MXGPT_CHECK(requested <= max_logit_rows_, "{} logit rows, planned {}", requested,
                max_logit_rows_);
    forward_(state_.backend, config_, weights_, state_.state, batch);
    return {state_.state.logits, static_cast<size_t>(requested * config_.vocabulary)};
  }

 private:
  const model::Config& config_;
  const model::Weights& weights_;
  int64_t max_logit_rows_;
  CpuRunState state_;
  Forward forward_;
};

}  // namespace mxgpt::runtime
