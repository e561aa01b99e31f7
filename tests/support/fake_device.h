// A device that only counts memory, and runners that allocate from it: for tests of engines that
// run out of memory at any point.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <functional>
#include <memory>

#include "runtime/device.h"
#include "support/fake_runner.h"

namespace mxgpt {

/// Must outlive the engine. The engine thread allocates and frees; tests may change other members
/// at any time.
class FakeDevice {
 public:
  static constexpr int64_t kWeights = 6000, kLayers = 4, kLayerExperts = 1000, kContext = 500;

  explicit FakeDevice(int64_t bytes) : total(bytes) {}
  ~FakeDevice() { EXPECT_EQ(used_, 0); }

  std::atomic<int64_t> total;
  std::atomic<int64_t> used_by_others = 0;   ///< bytes allocated by other processes
  std::atomic<int64_t> peak = 0;             ///< highest number of allocated bytes
  std::atomic<int64_t> runners_created = 0;  ///< number of runners
  /// Called before each step; may throw, as a GPU would.
  std::function<void(const backend::Batch&)> before_step;

  static runtime::MemoryPlan plan(const runtime::RunnerOptions& o) {
    const bool q8 = o.kv_format == quant::Format::q8_0;
    return {.weights = kWeights - o.cpu_offload_layers * kLayerExperts,
            .kv_cache = (o.kv_pages[0] + o.kv_pages[1]) * (q8 ? 17 : 32),
            .workspace = o.max_batched_tokens * 8 + o.max_logit_rows * 4,
            .runtime = kContext};
  }

  int64_t free() const { return total - used_by_others - used_; }
  void allocate(const runtime::RunnerOptions& options) {
    const runtime::MemoryPlan wanted = plan(options);
    if (wanted.total() > free())
      throw runtime::MemoryPlanError(wanted, 0, free(), std::max<int64_t>(0, free()), 0);
    used_ += wanted.total();
    peak = std::max(peak.load(), used_.load());
    ++runners_created;
  }
  void release(const runtime::RunnerOptions& options) { used_ -= plan(options).total(); }

 private:
  std::atomic<int64_t> used_ = 0;
};

/// Runners are those of `inner`, with memory allocated from the device.
class FakeDeviceRunnerFactory final : public runtime::RunnerFactory {
 public:
  using CreateRunner =
      std::function<std::unique_ptr<runtime::Runner>(const runtime::RunnerOptions&)>;
  FakeDeviceRunnerFactory(FakeDevice& device, CreateRunner inner)
      : device_(device), inner_(std::move(inner)) {}

  std::unique_ptr<runtime::Runner> create(const runtime::RunnerOptions& options) override {
    return std::make_unique<DeviceRunner>(device_, options, inner_);
  }
  runtime::MemoryPlan plan_memory(const runtime::RunnerOptions& options) const override {
    return FakeDevice::plan(options);
  }

 private:
  class DeviceRunner final : public runtime::Runner {
   public:
    DeviceRunner(FakeDevice& device, const runtime::RunnerOptions& options,
                 const CreateRunner& inner)
        : device_(device), options_(options) {
      device.allocate(options);
      inner_ = inner(options);
    }
    ~DeviceRunner() override { device_.release(options_); }
    std::span<const float> step(const backend::Batch& batch) override {
      if (device_.before_step) device_.before_step(batch);
      return inner_->step(batch);
    }

   private:
    FakeDevice& device_;
    runtime::RunnerOptions options_;
    std::unique_ptr<runtime::Runner> inner_;
  };

  FakeDevice& device_;
  CreateRunner inner_;
};

/// Device memory runs out in the middle of a step.
inline runtime::OutOfDeviceMemory out_of_memory_in_step(int64_t bytes) {
  return {"VRAM_OOM", fmt::format("{} bytes are needed, 0 are free", bytes), "", bytes, 0};
}

}  // namespace mxgpt
