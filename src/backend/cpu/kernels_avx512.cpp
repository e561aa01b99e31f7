#include "backend/cpu/kernels_impl.h"

namespace mxgpt::cpu {
extern constinit const CpuKernels kernels_avx512 = kKernels;
}
