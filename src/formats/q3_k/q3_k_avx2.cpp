#include "formats/avx2.h"
#include "formats/q3_k/q3_k.h"

namespace mxgpt {

struct Q3_KAvx2 : Q3_K {
  static Avx2Group load(const Block& block, int g) {
    const __m256i shifted = _mm256_srli_epi16(avx2::load32(block.q + g / 4 * 32), g % 4 * 2);
    const __m256i low = _mm256_and_si256(shifted, _mm256_set1_epi8(3));
    // Without the third bit q is low - 4: the upper six bits of the byte are ones.
    const __m256i bit = _mm256_set1_epi8(static_cast<char>(1 << g));
    const __m256i has_high =
        _mm256_cmpeq_epi8(_mm256_and_si256(avx2::load32(block.high), bit), bit);
    const __m256i missing = _mm256_andnot_si256(has_high, _mm256_set1_epi8(-4));
    return {.q = _mm256_or_si256(low, missing),
            .scale = _mm256_mul_ps(_mm256_set1_ps(avx2::f16(block.scale)),
                                   avx2::halves(static_cast<float>(part_scale(block, 2 * g)),
                                                static_cast<float>(part_scale(block, 2 * g + 1))))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q3_k, Q3_KAvx2)
