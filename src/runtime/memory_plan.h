// What running a model takes of a GPU's memory, and the error that says there is less.
#pragma once

#include <cstdint>

#include "backend/cuda/device.h"

namespace mxgpt::runtime {

/// Bytes of a GPU's memory that running a model takes.
struct MemoryPlan {
  int64_t weights = 0, kv = 0, workspace = 0;
  int64_t runtime_overhead = 0;  ///< what CUDA takes for a process
  int64_t pinned_host = 0;       ///< of host memory, pinned: experts that the GPU reads there
  int64_t total() const { return weights + kv + workspace + runtime_overhead; }
};

/// A plan is beyond what there is; the numbers are bytes.
struct MemoryPlanError : cuda::OutOfMemory {
  /// `room`: what the plan may take, of a budget or of what is free.
  MemoryPlanError(const MemoryPlan& plan, int64_t budget, int64_t free, int64_t limit,
                  int64_t max_pages);

  MemoryPlan plan;
  int64_t budget;     ///< 0: none was set
  int64_t free;       ///< on the GPU, of what is not mxgpt's
  int64_t max_pages;  ///< of the KV cache beside the rest; 0: not even the rest fits
};

}  // namespace mxgpt::runtime
