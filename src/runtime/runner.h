// A model ready to run on one device: weights loaded, activation buffers and KV cache allocated.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "backend/activation_hook.h"
#include "backend/batch.h"
#include "backend/ops.h"
#include "kernels/accum_type.h"
#include "runtime/memory_plan.h"

namespace mxgpt::runtime {

struct RunnerOptions {
  std::string_view device = "cpu";  ///< name in the registry of runtime/device.h
  int64_t vram_budget = 0;          ///< bytes of device memory to use at most; 0: all that is free
  int64_t max_sequences = 1;        ///< per batch
  backend::Precision precision = backend::Precision::mixed;
  kernels::AccumType accum_type = kernels::AccumType::f32;  ///< of linear layers
  std::optional<quant::Format> kv_format;     ///< empty: f32 in exact precision, else f16
  int64_t max_batched_tokens = 512;           ///< per batch
  int64_t max_logit_rows = 1;                 ///< per batch
  int64_t kv_pages[backend::kKvGroups] = {};  ///< by KvGroup
  bool preallocate_kv = false;                ///< touch its memory at once instead of on first use
  int64_t cpu_offload_layers = 0;  ///< experts of so many last layers stay in host memory
  backend::ActivationHook* activation_hook = nullptr;  ///< called in every step; may be null
};

class Runner {
 public:
  virtual ~Runner() = default;
  /// Runs the batch and returns its logits, [logit_rows, vocabulary], valid until the next step.
  virtual std::span<const float> step(const backend::Batch& batch) = 0;
};

/// Creates runners of one model, at most one at a time.
class RunnerFactory {
 public:
  virtual ~RunnerFactory() = default;
  /// Throws OutOfDeviceMemory if the device has too little memory. Another runner may be created
  /// after that, and after the previous one is destroyed.
  virtual std::unique_ptr<Runner> create(const RunnerOptions& options) = 0;
  /// Memory that create() needs.
  virtual MemoryPlan plan_memory(const RunnerOptions& options) const = 0;
};

}  // namespace mxgpt::runtime
