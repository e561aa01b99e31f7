#include "formats/avx2.h"
#include "formats/q5_1/q5_1.h"

namespace mxgpt {

struct Q5_1Avx2 : Q5_1 {
  static Avx2Group load(const Block& block, int) {
    const __m256i fifth = _mm256_and_si256(avx2::bit_masks(block.high), _mm256_set1_epi8(16));
    return {.q = _mm256_or_si256(avx2::nibbles(block.nibbles), fifth),
            .scale = _mm256_set1_ps(avx2::f16(block.scale)),
            .offset = _mm256_set1_ps(avx2::f16(block.minimum))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q5_1, Q5_1Avx2)
