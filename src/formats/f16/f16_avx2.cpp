#include "formats/avx2.h"
#include "formats/f16/f16.h"

namespace mxgpt {

struct F16Avx2 : F16 {
  static __m256 load(const Block* eight) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(eight)));
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(f16, F16Avx2)
