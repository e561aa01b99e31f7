// The CPU as a device: weights in the mapped file or in private host memory.
#include "model/weight_loader.h"
#include "runtime/cpu_executor.h"
#include "runtime/device.h"
#include "runtime/host_memory_plan.h"
#include "runtime/model.h"

namespace mxgpt::runtime {

namespace {

class HostDeviceWeights final : public DeviceWeights {
 public:
  explicit HostDeviceWeights(const Model& model) : host_(model, model.load_options()) {}
  const model::Weights& weights() const override { return host_.weights(); }

 private:
  model::HostWeights host_;
};

class CpuDevice final : public Device {
 public:
  std::string_view name() const override { return "cpu"; }
  bool is_host() const override { return true; }
  DeviceInfo info() const override { return {}; }
  int64_t default_batched_tokens() const override { return 512; }

  MemoryPlan plan_memory(const Model& model, const RunnerOptions& options) const override {
    const HostMemoryPlan plan = plan_host_memory(model, options);
    return {.weights = static_cast<int64_t>(plan.mapped_weights() + plan.private_weights()),
            .kv_cache = static_cast<int64_t>(plan.kv_bytes()),
            .workspace = static_cast<int64_t>(plan.workspace),
            .runtime = static_cast<int64_t>(plan.program)};
  }
  /// The system pages mapped weights in and out, so any plan may run.
  void require_memory(const Model&, const RunnerOptions&, bool) const override {}
  std::unique_ptr<DeviceWeights> load_weights(const Model& model, int64_t) const override {
    return std::make_unique<HostDeviceWeights>(model);
  }
  std::unique_ptr<StepExecutor> create_executor(const model::Config& config, const model::Weights&,
                                                const RunnerOptions& options) const override {
    return std::make_unique<CpuExecutor>(config, options);
  }
};

}  // namespace

const Device& cpu_device() {
  static const CpuDevice device;
  return device;
}

}  // namespace mxgpt::runtime
