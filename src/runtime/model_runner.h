// Runs an architecture's forward on any device.
#pragma once

#include <memory>

#include "model/architecture.h"
#include "runtime/executor.h"
#include "runtime/runner.h"

namespace mxgpt::runtime {

class ModelRunner final : public Runner {
 public:
  /// `config` and `weights`, which lie in the executor's device, must outlive the runner.
  ModelRunner(const model::Architecture& architecture, const model::Config& config,
              const model::Weights& weights, int64_t max_logit_rows,
              std::unique_ptr<StepExecutor> executor);

  std::span<const float> step(const backend::Batch& batch) override;

 private:
  decltype(model::Architecture::forward) forward_;
  const model::Config& config_;
  const model::Weights& weights_;
  int64_t max_logit_rows_;
  std::unique_ptr<StepExecutor> executor_;
};

/// A runner on options.device, where `weights` must be.
std::unique_ptr<Runner> create_runner(const model::Architecture& architecture,
                                      const model::Config& config, const model::Weights& weights,
                                      const RunnerOptions& options);

}  // namespace mxgpt::runtime
