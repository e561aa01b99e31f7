// The GPU's kernels and ops on host memory, for checks. Each call copies its data.
#pragma once

#include <vector>

#include "backend/kernel_set.h"

namespace mxgpt::cuda {

/// Throws Error if there is no GPU.
std::vector<backend::KernelSet> kernel_sets();
backend::OpRunner op_runner();

}  // namespace mxgpt::cuda
