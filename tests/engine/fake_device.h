// A GPU whose memory is counted and not there, and runners that live in it: for tests of what an
// engine does when there is too little, at any moment.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <functional>
#include <memory>

#include "engine/fake_runner.h"

namespace mxgpt {

/// Outlives the engine. The engine's thread takes and gives back; a test may change the rest at any
/// time.
class FakeDevice {
 public:
  static constexpr int64_t kWeights = 6000, kLayers = 4, kLayerExperts = 1000, kContext = 500;

  explicit FakeDevice(int64_t bytes) : total(bytes) {}
  ~FakeDevice() { EXPECT_EQ(used_, 0); }

  std::atomic<int64_t> total;
  std::atomic<int64_t> others = 0;  ///< what other processes have
  std::atomic<int64_t> most = 0;    ///< that was taken at once
  std::atomic<int64_t> made = 0;    ///< runners
  /// Called before each step; may throw, as the GPU would.
  std::function<void(const Batch&)> before_step;

  static CudaPlan plan(const RunnerOptions& o) {
    const bool q8 = o.kv == Format::q8_0;
    return {.weights = kWeights - o.host_expert_layers * kLayerExperts,
            .kv = (o.pages[0] + o.pages[1]) * (q8 ? 17 : 32),
            .workspace = o.max_rows * 8 + o.max_logit_rows * 4,
            .context = kContext};
  }

  int64_t free() const { return total - others - used_; }
  void take(const RunnerOptions& options) {
    const CudaPlan wanted = plan(options);
    if (wanted.total() > free())
      throw VramError(wanted, 0, free(), std::max<int64_t>(0, free()), 0);
    used_ += wanted.total();
    most = std::max(most.load(), used_.load());
    ++made;
  }
  void give_back(const RunnerOptions& options) { used_ -= plan(options).total(); }

 private:
  std::atomic<int64_t> used_ = 0;
};

/// Its runners are `inner`'s, with room of the device's.
class FakeDeviceRunners final : public RunnerSource {
 public:
  using Make = std::function<std::unique_ptr<Runner>(const RunnerOptions&)>;
  FakeDeviceRunners(FakeDevice& device, Make inner) : device_(device), inner_(std::move(inner)) {}

  std::unique_ptr<Runner> make(const RunnerOptions& options) override {
    return std::make_unique<OnDevice>(device_, options, inner_);
  }
  CudaPlan plan(const RunnerOptions& options) const override { return FakeDevice::plan(options); }

 private:
  class OnDevice final : public Runner {
   public:
    OnDevice(FakeDevice& device, const RunnerOptions& options, const Make& inner)
        : device_(device), options_(options) {
      device.take(options);
      inner_ = inner(options);
    }
    ~OnDevice() override { device_.give_back(options_); }
    std::span<const float> step(const Batch& batch) override {
      if (device_.before_step) device_.before_step(batch);
      return inner_->step(batch);
    }

   private:
    FakeDevice& device_;
    RunnerOptions options_;
    std::unique_ptr<Runner> inner_;
  };

  FakeDevice& device_;
  Make inner_;
};

/// As CUDA reports it in the middle of a step.
inline cuda::OutOfMemory no_memory_in_a_step(int64_t bytes) {
  return {"VRAM_OOM", fmt::format("{} bytes are needed, 0 are free", bytes), "", bytes, 0};
}

}  // namespace mxgpt
