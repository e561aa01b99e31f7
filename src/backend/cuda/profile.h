// Kernel times and memory use of a run, without CUDA headers.
#pragma once

#include <cstdint>
#include <string>

#include "backend/cuda/generic/gemm.h"

namespace mxgpt::cuda {

/// Starts timing kernels and logging allocations. Kernels then run one at a time, without graphs.
/// Call it before anything is loaded.
void start_profile();
bool is_profiling();

/// Two CSV tables with headings: kernels by total time, and allocations and releases in order.
std::string profile_report();

/// Times what is enqueued during its lifetime, and marks it as an NVTX range. Does nothing unless
/// profiling. `name` must have static storage.
class ScopedTimer {
 public:
  ScopedTimer(const char* name, CudaStream stream);
  ScopedTimer(const ScopedTimer&) = delete;
  ScopedTimer& operator=(const ScopedTimer&) = delete;
  ~ScopedTimer();

 private:
  CudaStream stream_;
  bool active_;
};

/// Reads the timers. All enqueued work must have finished.
void collect_timings();
/// Logs an allocation, or a release if `bytes` is negative.
void note_memory(const char* kind, int64_t bytes);

}  // namespace mxgpt::cuda
