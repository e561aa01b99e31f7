// Executes a model's steps on the CPU backend.
#pragma once

#include <vector>

#include "backend/cpu/backend.h"
#include "base/arena.h"
#include "runtime/executor.h"
#include "runtime/runner.h"

namespace mxgpt::runtime {

class CpuExecutor final : public StepExecutor {
 public:
  CpuExecutor(const model::Config& config, const RunnerOptions& options);

  /// Bytes that the constructor allocates besides the KV cache.
  static size_t workspace_bytes(const model::Config& config, const RunnerOptions& options);

  backend::Backend& backend() override { return backend_; }
  const model::RunState& state() const override { return state_; }
  std::span<const float> run(const backend::Batch& batch,
                             const std::function<void()>& forward) override;

 private:
  int64_t vocabulary_;
  cpu::CpuBackend backend_;
  std::vector<model::RopeFrequencies> frequencies_;  ///< of each RopeCache
  Arena arena_;                                      ///< the buffers of state_
  std::vector<PageMemory> kv_;                       ///< keys and values of each layer
  model::RunState state_;
};

}  // namespace mxgpt::runtime
