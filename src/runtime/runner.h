// A model ready to run on one backend: weights in place, working memory and KV cache allocated.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "backend/activation_hook.h"
#include "backend/batch.h"
#include "backend/ops.h"
#include "kernels/accum_type.h"
#include "runtime/memory_plan.h"

namespace mxgpt::runtime {

struct RunnerOptions {
  backend::Device device = backend::Device::cpu;
  int64_t vram_budget = 0;    ///< bytes that mxgpt may take of a GPU's memory; 0: what is free
  int64_t max_sequences = 1;  ///< of a batch
  backend::Precision precision = backend::Precision::mixed;
  kernels::AccumType accum_type = kernels::AccumType::f32;  ///< of linear layers
  std::optional<quant::Format>
      kv_format;                     ///< of the cache; empty: f32 in exact precision, else f16
  int64_t max_batched_tokens = 512;  ///< of a batch
  int64_t max_logit_rows = 1;        ///< of a batch
  int64_t kv_pages[backend::kKvGroups] = {};  ///< of the KV cache, by group
  bool preallocate_kv = false;     ///< its memory is taken at once, and not as pages are first used
  int64_t cpu_offload_layers = 0;  ///< of the last layers, experts stay in host memory
  backend::ActivationHook* activation_hook = nullptr;  ///< shown every step; may be null
};

class Runner {
 public:
  virtual ~Runner() = default;
  /// Runs the batch and returns its logits, [logit_rows, vocabulary], valid until the next step.
  virtual std::span<const float> step(const backend::Batch& batch) = 0;
};

/// Where runners of one model come from, one after another.
class RunnerFactory {
 public:
  virtual ~RunnerFactory() = default;
  /// Throws cuda::OutOfMemory if a GPU's memory does not suffice; then, and when its runners are
  /// gone, another may be made.
  virtual std::unique_ptr<Runner> create(const RunnerOptions& options) = 0;
  /// What make() takes of a GPU's memory; zeros where there is none in it.
  virtual MemoryPlan plan_memory(const RunnerOptions& options) const = 0;
};

}  // namespace mxgpt::runtime
