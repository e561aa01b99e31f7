// A CUDA GPU as a device.
#include <fmt/format.h>

#include <algorithm>

#include "backend/cuda/device.h"
#include "backend/cuda/host_kernels.h"
#include "backend/cuda/weight_repack.h"
#include "runtime/cuda_executor.h"
#include "runtime/cuda_weights.h"
#include "runtime/device.h"

namespace mxgpt::runtime {

namespace {

class CudaDevice final : public Device {
 public:
  std::string_view name() const override { return "cuda"; }
  bool is_host() const override { return false; }
  std::string_view version_key() const override { return "cuda_version"; }
  DeviceInfo info() const override {
    const cuda::DeviceInfo gpu = cuda::device_info();
    return {.product = gpu.name,
            .compute_capability = fmt::format("{}.{}", gpu.major, gpu.minor),
            .version =
                fmt::format("{}.{}", gpu.runtime_version / 1000, gpu.runtime_version % 1000 / 10)};
  }
  int64_t default_batched_tokens() const override { return 2048; }

  MemoryPlan plan_memory(const Model& model, const RunnerOptions& options) const override {
    MemoryPlan plan = plan_cuda_executor(model.config(), stored_model_traits(model), options);
    const CudaWeights::Bytes weights = CudaWeights::bytes(model, options.cpu_offload_layers);
    plan.weights = weights.device;
    plan.host = weights.host;
    plan.runtime = cuda::device_caps().context_bytes;
    return plan;
  }

  void require_memory(const Model& model, const RunnerOptions& options,
                      bool weights_loaded) const override {
    const MemoryPlan plan = plan_memory(model, options);
    // Covers allocation granularity of the driver and kernels that are loaded later.
    constexpr int64_t kSlack = 64 << 20;
    const int64_t free = cuda::device_info().free;
    int64_t limit = free - kSlack + plan.runtime + (weights_loaded ? plan.weights : 0);
    if (options.vram_budget) limit = std::min(limit, options.vram_budget);
    if (plan.total() <= limit) return;
    const int64_t pages =
        *std::max_element(std::begin(options.kv_pages), std::end(options.kv_pages));
    const int64_t kv_limit = limit - (plan.total() - plan.kv_cache);
    const int64_t max_pages =
        plan.kv_cache > 0 && kv_limit > 0 ? pages * kv_limit / plan.kv_cache : 0;
    throw MemoryPlanError(plan, options.vram_budget, free, std::max<int64_t>(limit, 0), max_pages);
  }

  std::unique_ptr<DeviceWeights> load_weights(const Model& model,
                                              int64_t cpu_offload_layers) const override {
    return std::make_unique<CudaWeights>(model, cpu_offload_layers);
  }
  std::unique_ptr<StepExecutor> create_executor(const model::Config& config,
                                                const model::Weights& weights,
                                                const RunnerOptions& options) const override {
    return std::make_unique<CudaExecutor>(config, weights, options);
  }
  std::vector<backend::KernelSet> kernel_sets() const override { return cuda::kernel_sets(); }
  backend::OpRunner op_runner() const override { return cuda::op_runner(); }
};

}  // namespace

const Device& cuda_device() {
  static const CudaDevice device;
  return device;
}

}  // namespace mxgpt::runtime
