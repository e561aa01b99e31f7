// Devices that models run on. Nothing above runtime/ knows which ones exist.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/kernel_set.h"
#include "backend/out_of_device_memory.h"
#include "model/config.h"
#include "model/weights.h"
#include "runtime/memory_plan.h"
#include "runtime/runner.h"

namespace mxgpt::runtime {

using backend::OutOfDeviceMemory;

class Model;
class StepExecutor;

struct DeviceInfo {
  std::string product;             ///< "NVIDIA H200"; empty for the CPU
  std::string compute_capability;  ///< "9.0"; empty for the CPU
  std::string version;             ///< version of the driving software; see Device::version_key()
};

/// The weights of one model in a device's memory.
class DeviceWeights {
 public:
  virtual ~DeviceWeights() = default;
  virtual const model::Weights& weights() const = 0;
  /// Layers whose experts stayed in host memory (RunnerOptions::cpu_offload_layers).
  virtual int64_t offloaded_layers() const { return 0; }
};

/// Stateless. All members are thread-safe.
class Device {
 public:
  virtual ~Device() = default;

  /// Name in the registry: "cpu".
  virtual std::string_view name() const = 0;
  /// Whether it computes in host memory. Only such a device supports activation hooks, maps weights
  /// and uses memory as it is needed; others allocate everything when a runner is created.
  virtual bool is_host() const = 0;
  /// Name of DeviceInfo::version in status reports; empty if there is none.
  virtual std::string_view version_key() const { return {}; }
  /// Throws Error if the device is not available.
  virtual DeviceInfo info() const = 0;
  /// Token budget per step if none is set: large enough to keep the device busy.
  virtual int64_t default_batched_tokens() const = 0;

  /// Memory that a runner of the model needs, weights included. Loads nothing and does not require
  /// the device. Throws Error for options that the model does not support.
  virtual MemoryPlan plan_memory(const Model& model, const RunnerOptions& options) const = 0;
  /// Throws MemoryPlanError if the plan exceeds options.vram_budget or the free memory.
  /// `weights_loaded`: the device holds the weights already.
  virtual void require_memory(const Model& model, const RunnerOptions& options,
                              bool weights_loaded) const = 0;
  virtual std::unique_ptr<DeviceWeights> load_weights(const Model& model,
                                                      int64_t cpu_offload_layers) const = 0;
  /// A backend with activation buffers and KV cache. `weights` are in this device's memory.
  virtual std::unique_ptr<StepExecutor> create_executor(const model::Config& config,
                                                        const model::Weights& weights,
                                                        const RunnerOptions& options) const = 0;

  /// The device's kernels and ops on host memory, for checks. Throw Error if the device is not
  /// available. Empty for the host, whose kernels need no copies.
  virtual std::vector<backend::KernelSet> kernel_sets() const { return {}; }
  virtual backend::OpRunner op_runner() const { return {}; }
};

/// Throws Error, with the known names, for any other.
const Device& device(std::string_view name);
/// The host first.
std::vector<std::string_view> device_names();

}  // namespace mxgpt::runtime
