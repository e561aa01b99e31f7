#include "kernels/cpu/gemm.h"

#include "base/check.h"

namespace mxgpt::kernels {

namespace formats {
#define MXGPT_DECLARE(folder) \
  extern const GemmKernels folder##_scalar, folder##_avx2, folder##_avx512;
MXGPT_FORMATS(MXGPT_DECLARE)
#undef MXGPT_DECLARE
}  // namespace formats

namespace {
constexpr const GemmKernels* kKernels[][kIsaCount] = {
#if defined(__x86_64__)
#define MXGPT_ROW(folder) \
  {&formats::folder##_scalar, &formats::folder##_avx2, &formats::folder##_avx512},
#else
#define MXGPT_ROW(folder) {&formats::folder##_scalar, nullptr, nullptr},
#endif
    MXGPT_FORMATS(MXGPT_ROW)
#undef MXGPT_ROW
};
}  // namespace

const GemmKernels& gemm_kernels(quant::Format format, Isa isa) {
  const GemmKernels* kernels = kKernels[static_cast<int>(format)][static_cast<int>(isa)];
  MXGPT_CHECK(kernels, "this build has no {} kernels", isa_name(isa));
  return *kernels;
}

const GemmKernels& gemm_kernels(quant::Format format) {
  return gemm_kernels(format, isa());
}

}  // namespace mxgpt::kernels
