#include "formats/avx512.h"
#include "formats/f16/f16.h"

namespace mxgpt {

struct F16Avx512 : F16 {
  static void values(__m512i bits, __m512* out) {
    out[0] = avx512::f16_low(bits);
    out[1] = avx512::f16_high(bits);
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX512(f16, F16Avx512)
