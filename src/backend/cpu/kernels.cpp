#include "backend/cpu/kernels_impl.h"

namespace mxgpt::cpu {

#if defined(__x86_64__)
extern const CpuKernels kernels_avx2;
#endif

const CpuKernels& cpu_kernels() {
#if defined(__x86_64__)
  if (isa() == Isa::avx2) return kernels_avx2;
#endif
  return kKernels;
}

}  // namespace mxgpt::cpu
