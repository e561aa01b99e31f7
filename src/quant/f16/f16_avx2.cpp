#include "kernels/cpu/avx2/unpack.h"
#include "quant/f16/f16.h"

namespace mxgpt::quant {

struct F16Avx2 : F16 {
  static __m256 load(const Block* eight) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(eight)));
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(f16, F16Avx2)
