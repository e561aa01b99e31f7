// Executes a model's steps on a GPU, replaying CUDA graphs of shapes that repeat.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "backend/cuda/backend.h"
#include "model/weights.h"
#include "runtime/executor.h"
#include "runtime/memory_plan.h"
#include "runtime/runner.h"

namespace mxgpt::runtime {

/// The model as the choice of a CUDA backend sees it. Only the formats of `weights` matter.
cuda::ModelTraits cuda_model_traits(const model::Config& config, const model::Weights& weights);

/// KV cache and workspace of a CudaExecutor, computed without a GPU.
MemoryPlan plan_cuda_executor(const model::Config& config, const cuda::ModelTraits& traits,
                              const RunnerOptions& options);

class CudaExecutor final : public StepExecutor {
 public:
  CudaExecutor(const model::Config& config, const model::Weights& weights,
               const RunnerOptions& options);

  backend::Backend& backend() override { return *backend_; }
  const model::RunState& state() const override { return state_; }
  std::span<const float> run(const backend::Batch& batch,
                             const std::function<void()>& forward) override;

 private:
  /// Runs `work`, or replays the graph captured from it.
  void run_or_replay(const cuda::GraphKey& key, const std::function<void()>& work);

  int64_t vocabulary_;
  cuda::Memory device_;  ///< workspace and KV cache
  cuda::Memory logits_;  ///< pinned
  cuda::DeviceArena arena_;
  model::RunState state_;
  std::unique_ptr<cuda::CudaBackend> backend_;
  /// A graph has about 400 nodes of a kilobyte each in device memory; the memory plan's slack
  /// covers them.
  static constexpr size_t kMaxGraphs = 32;
  std::map<cuda::GraphKey, std::optional<cuda::Graph>> graphs_;  ///< empty: seen once
};

}  // namespace mxgpt::runtime
