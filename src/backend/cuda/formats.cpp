// Table of the formats' CUDA kernels.
#include "backend/cuda/generic/gemm.h"

namespace mxgpt::cuda {

namespace formats {
#define MXGPT_DECLARE(folder) extern const FormatKernels folder##_device;
MXGPT_FORMATS(MXGPT_DECLARE)
#undef MXGPT_DECLARE
}  // namespace formats

const FormatKernels& format_kernels(quant::Format format) {
  static constexpr const FormatKernels* kKernels[] = {
#define MXGPT_ROW(folder) &formats::folder##_device,
      MXGPT_FORMATS(MXGPT_ROW)
#undef MXGPT_ROW
  };
  return *kKernels[static_cast<int>(format)];
}

}  // namespace mxgpt::cuda
