#include "kernels/cpu/avx512/unpack.h"
#include "quant/f32/f32.h"

namespace mxgpt::kernels::avx512 {

struct F32Avx512 : quant::F32 {
  static void values(__m512i bits, __m512* out) { out[0] = _mm512_castsi512_ps(bits); }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(f32, F32Avx512)
