// Computes the memory a model needs to run, before anything is allocated.
#pragma once

#include <cstdint>

#include "backend/out_of_device_memory.h"

namespace mxgpt::runtime {

/// Bytes of a device's memory.
struct MemoryPlan {
  int64_t weights = 0, kv_cache = 0, workspace = 0;
  int64_t runtime = 0;  ///< the program on the CPU; the driver's context on a GPU
  int64_t host = 0;     ///< pinned host memory beside the device's: offloaded experts
  int64_t total() const { return weights + kv_cache + workspace + runtime; }
};

/// A plan exceeds the budget or the free memory of the device.
struct MemoryPlanError : backend::OutOfDeviceMemory {
  /// `limit`: bytes that the plan may use.
  MemoryPlanError(const MemoryPlan& plan, int64_t budget, int64_t free, int64_t limit,
                  int64_t max_pages);

  MemoryPlan plan;
  int64_t budget;     ///< bytes; 0 if none is set
  int64_t free;       ///< bytes of the device that no process uses
  int64_t max_pages;  ///< KV cache pages that would fit; 0 if not even the rest fits
};

}  // namespace mxgpt::runtime
