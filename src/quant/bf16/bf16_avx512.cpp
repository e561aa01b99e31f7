#include "kernels/cpu/avx512/unpack.h"
#include "quant/bf16/bf16.h"

namespace mxgpt::kernels::avx512 {

struct Bf16Avx512 : quant::Bf16 {
  static void values(__m512i bits, __m512* out) {
    out[0] = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
    out[1] = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(-0x10000)));
  }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(bf16, Bf16Avx512)
