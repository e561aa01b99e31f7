// What a run on a GPU spends its time and its memory on, for --profile. Free of CUDA's headers.
#pragma once

#include <cstdint>
#include <string>

#include "backend/cuda/generic/gemm.h"

namespace mxgpt::cuda {

/// From now on kernels are timed, one after another and not in graphs, and allocations noted.
/// Before anything is loaded.
void start_profile();
bool is_profiling();

/// Two tables, as CSV with a heading each: kernels by the time that they took, and memory by the
/// time at which it was taken or given back.
std::string profile_report();

/// Times what is enqueued while it lives, which is an NVTX range too. Does nothing, and costs
/// nothing, unless a profile was started. `name` lives as long as the program.
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

/// All that was enqueued is done: reads the clocks.
void collect_timings();
/// So many bytes were taken, or given back if negative.
void note_memory(const char* kind, int64_t bytes);

}  // namespace mxgpt::cuda
