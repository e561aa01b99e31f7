#include "kernels/cpu/avx512/unpack.h"
#include "quant/f16/f16.h"

namespace mxgpt::quant {

struct F16Avx512 : F16 {
  static void values(__m512i bits, __m512* out) {
    out[0] = kernels::avx512::f16_low(bits);
    out[1] = kernels::avx512::f16_high(bits);
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX512(f16, F16Avx512)
