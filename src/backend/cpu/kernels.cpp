#include "backend/cpu/kernels_impl.h"

namespace mxgpt::cpu {

#if defined(__x86_64__)
extern const CpuKernels kernels_avx2, kernels_avx512;
#endif

const CpuKernels* cpu_kernels(kernels::Isa isa) {
  switch (isa) {
    case kernels::Isa::scalar:
      return &kKernels;
#if defined(__x86_64__)
    case kernels::Isa::avx2:
      return &kernels_avx2;
    case kernels::Isa::avx512:
      return &kernels_avx512;
#endif
    default:
      return nullptr;
  }
}

}  // namespace mxgpt::cpu
