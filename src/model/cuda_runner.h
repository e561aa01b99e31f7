// Runs an architecture's forward on a GPU, in memory laid out once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "backend/cuda/backend.h"
#include "base/check.h"
#include "model/runner.h"
#include "model/step_memory.h"
#include "model/vram.h"
#include "model/weights.h"

namespace mxgpt {

/// Of cache and workspace alone.
CudaPlan cuda_runner_plan(const Config& config, const RunnerOptions& options);

/// Owns StepMemory and the backend for one model, in one allocation on the GPU.
class CudaMemory {
 public:
  CudaMemory(const Config& config, const RunnerOptions& options);
  /// Takes a step, of which `forward` enqueues the ops, and waits for it; its logits are in host
  /// memory, valid until the next. A shape of steps that recurs is recorded and then launched as a
  /// whole, which gives the same bits sooner.
  std::span<const float> run(const Batch& batch, const std::function<void()>& forward);

 private:
  /// Does `work`, or launches what was recorded of it.
  void take(const cuda::Shape& shape, const std::function<void()>& work);

  int64_t vocabulary_;
  cuda::Memory device_;
  cuda::Memory logits_;  ///< pinned
  cuda::Room room_;

 public:
  StepMemory step;
  cuda::Backend backend;

 private:
  /// A graph has some 400 nodes, of about a kilobyte on the GPU: within require_vram()'s slack.
  static constexpr size_t kMostGraphs = 32;
  std::map<cuda::Shape, std::optional<cuda::Graph>> graphs_;  ///< empty: was met once
};

template <class Forward>
class CudaRunner final : public Runner {
 public:
  CudaRunner(const Config& config, const Weights& weights, const RunnerOptions& options,
             Forward forward)
      : config_(config),
        weights_(weights),
        max_logit_rows_(options.max_logit_rows),
        memory_(config_, options),
        forward_(forward) {}

  std::span<const float> step(const Batch& batch) override {
    const auto wanted = static_cast<int64_t>(batch.logit_rows.size());
    MXGPT_CHECK(wanted <= max_logit_rows_, "{} logit rows, planned {}", wanted, max_logit_rows_);
    return memory_.run(batch,
                       [&] { forward_(memory_.backend, config_, weights_, memory_.step, batch); });
  }

 private:
  const Config& config_;
  const Weights& weights_;
  int64_t max_logit_rows_;
  CudaMemory memory_;
  Forward forward_;
};

}  // namespace mxgpt
