#include "runtime/model_runner.h"

#include "base/check.h"
#include "runtime/device.h"

namespace mxgpt::runtime {

ModelRunner::ModelRunner(const model::Architecture& architecture, const model::Config& config,
                         const model::Weights& weights, int64_t max_logit_rows,
                         std::unique_ptr<StepExecutor> executor)
    : forward_(architecture.forward),
      config_(config),
      weights_(weights),
      max_logit_rows_(max_logit_rows),
      executor_(std::move(executor)) {}

std::span<const float> ModelRunner::step(const backend::Batch& batch) {
  const auto requested = static_cast<int64_t>(batch.logit_rows.size());
  MXGPT_CHECK(requested <= max_logit_rows_, "{} logit rows, planned {}", requested,
              max_logit_rows_);
  return executor_->run(
      batch, [&] { forward_(executor_->backend(), config_, weights_, executor_->state()); });
}

std::unique_ptr<Runner> create_runner(const model::Architecture& architecture,
                                      const model::Config& config, const model::Weights& weights,
                                      const RunnerOptions& options) {
  std::unique_ptr<StepExecutor> executor =
      device(options.device).create_executor(config, weights, options);
  return std::make_unique<ModelRunner>(architecture, config, weights, options.max_logit_rows,
                                       std::move(executor));
}

}  // namespace mxgpt::runtime
