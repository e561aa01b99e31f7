// A model ready to run on one backend: weights in place, working memory and KV cache allocated.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "backend/batch.h"
#include "backend/observer.h"
#include "backend/ops.h"
#include "model/vram.h"

namespace mxgpt {

struct RunnerOptions {
  Device device = Device::cpu;
  int64_t vram_budget = 0;    ///< bytes that mxgpt may take of a GPU's memory; 0: what is free
  int64_t max_sequences = 1;  ///< of a batch
  Precision precision = Precision::standard;
  Accumulate accumulate = Accumulate::f32;  ///< of linear layers
  std::optional<Format> kv;        ///< of the cache; empty: f32 in exact precision, else f16
  int64_t max_rows = 512;          ///< of a batch
  int64_t max_logit_rows = 1;      ///< of a batch
  int64_t pages[kKvGroups] = {};   ///< of the KV cache, by group
  bool commit = false;             ///< its memory is taken at once, and not as pages are first used
  int64_t host_expert_layers = 0;  ///< of the last layers, experts stay in host memory
  Observer* observer = nullptr;    ///< shown every step; may be null
};

class Runner {
 public:
  virtual ~Runner() = default;
  /// Runs the batch and returns its logits, [logit_rows, vocabulary], valid until the next step.
  virtual std::span<const float> step(const Batch& batch) = 0;
};

/// Where runners of one model come from, one after another.
class RunnerSource {
 public:
  virtual ~RunnerSource() = default;
  /// Throws cuda::OutOfMemory if a GPU's memory does not suffice; then, and when its runners are
  /// gone, another may be made.
  virtual std::unique_ptr<Runner> make(const RunnerOptions& options) = 0;
  /// What make() takes of a GPU's memory; zeros where there is none in it.
  virtual CudaPlan plan(const RunnerOptions& options) const = 0;
};

}  // namespace mxgpt
