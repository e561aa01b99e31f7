// Runs an architecture's forward on a GPU, in memory laid out once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "backend/cuda/backend.h"
#include "base/check.h"
#include "model/run_state.h"
#include "model/weights.h"
#include "runtime/memory_plan.h"
#include "runtime/runner.h"

namespace mxgpt::runtime {

/// Of cache and workspace alone.
MemoryPlan plan_cuda_runner(const model::Config& config, const RunnerOptions& options);

/// Owns StepMemory and the backend for one model, in one allocation on the GPU.
class CudaRunState {
 public:
  CudaRunState(const model::Config& config, const RunnerOptions& options);
  /// Takes a step, of which `forward` enqueues the ops, and waits for it; its logits are in host
  /// memory, valid until the next. A shape of steps that recurs is recorded and then launched as a
  /// whole, which gives the same bits sooner.
  std::span<const float> run(const backend::Batch& batch, const std::function<void()>& forward);

 private:
  /// Does `work`, or launches what was recorded of it.
  void run_or_replay(const cuda::GraphKey& shape, const std::function<void()>& work);

  int64_t vocabulary_;
  cuda::Memory device_;
  cuda::Memory logits_;  ///< pinned
  cuda::DeviceArena arena_;

 public:
  model::RunState state;
  cuda::GenericBackend backend;

 private:
  /// A graph has some 400 nodes, of about a kilobyte on the GPU: within require_vram()'s slack.
  static constexpr size_t kMaxGraphs = 32;
  std::map<cuda::GraphKey, std::optional<cuda::Graph>> graphs_;  ///< empty: was met once
};

template <class Forward>
class CudaRunner final : public Runner {
 public:
  CudaRunner(const model::Config& config, const model::Weights& weights,
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
    return state_.run(batch,
                      [&] { forward_(state_.backend, config_, weights_, state_.state, batch); });
  }

 private:
  const model::Config& config_;
  const model::Weights& weights_;
  int64_t max_logit_rows_;
  CudaRunState state_;
  Forward forward_;
};

}  // namespace mxgpt::runtime
