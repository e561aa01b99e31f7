// Turns CUDA error codes into Errors.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "backend/cuda/device.h"
#include "base/error.h"

namespace mxgpt::cuda {

inline void check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  cudaGetLastError();  // reported here, not again after the next launch
  if (result == cudaErrorMemoryAllocation) {
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw OutOfMemory("VRAM_OOM",
                      std::string(what) + ": " + std::to_string(free) + " bytes of " +
                          std::to_string(total) + " are free",
                      {}, 0, static_cast<int64_t>(free));
  }
  throw Error("CUDA", std::string(what) + ": " + cudaGetErrorString(result));
}

}  // namespace mxgpt::cuda
