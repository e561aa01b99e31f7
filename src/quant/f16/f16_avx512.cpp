#include "kernels/cpu/avx512/unpack.h"
#include "quant/f16/f16.h"

namespace mxgpt::kernels::avx512 {

struct F16Avx512 : quant::F16 {
  static void values(__m512i bits, __m512* out) {
    out[0] = f16_low(bits);
    out[1] = f16_high(bits);
  }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(f16, F16Avx512)
