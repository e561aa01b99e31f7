// What a call of CUDA's returned, as an Error.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "base/error.h"

namespace mxgpt::cuda {

inline void check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  throw Error("CUDA", std::string(what) + ": " + cudaGetErrorString(result));
}

}  // namespace mxgpt::cuda
