#include "kernels/cpu/avx2/unpack.h"
#include "quant/f16/f16.h"

namespace mxgpt::kernels::avx2 {

struct F16Avx2 : quant::F16 {
  static __m256 load(const Block* elements) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(elements)));
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(f16, F16Avx2)
