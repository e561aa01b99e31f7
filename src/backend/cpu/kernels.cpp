#include "backend/cpu/kernels_impl.h"

namespace mxgpt::cpu {

#if defined(__x86_64__)
extern const CpuKernels kernels_avx2;
#endif

const CpuKernels* cpu_kernels(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return &kKernels;
    case Isa::avx2:
#if defined(__x86_64__)
      return &kernels_avx2;
#else
      return nullptr;
#endif
  }
  return nullptr;
}

}  // namespace mxgpt::cpu
