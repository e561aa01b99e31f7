#include "backend/cpu/kernels_impl.h"

namespace mxgpt::cpu {

#if defined(__x86_64__)
extern const CpuKernels kernels_avx2, kernels_avx512;
#endif

const CpuKernels* cpu_kernels(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return &kKernels;
#if defined(__x86_64__)
    case Isa::avx2:
      return &kernels_avx2;
    case Isa::avx512:
      return &kernels_avx512;
#endif
    default:
      return nullptr;
  }
}

}  // namespace mxgpt::cpu
