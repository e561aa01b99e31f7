#include "formats/avx2.h"
#include "formats/q6_k/q6_k.h"

namespace mxgpt {

struct Q6_KAvx2 : Q6_K {
  static Avx2Group load(const Block& block, int g) {
    const int half_block = g / 4, quarter = g % 4;
    const __m256i nibbles = avx2::load32(block.nibbles + half_block * 64 + quarter % 2 * 32);
    const __m256i low =
        _mm256_and_si256(_mm256_srli_epi16(nibbles, quarter / 2 * 4), _mm256_set1_epi8(0xf));
    const __m256i high =
        _mm256_and_si256(_mm256_srli_epi16(avx2::load32(block.high + half_block * 32), quarter * 2),
                         _mm256_set1_epi8(3));
    const __m256i six_bits = _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
    const int8_t* parts = block.parts + 2 * g;
    return {.q = _mm256_sub_epi8(six_bits, _mm256_set1_epi8(32)),
            .scale = _mm256_mul_ps(_mm256_set1_ps(avx2::f16(block.scale)),
                                   avx2::halves(parts[0], parts[1]))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q6_k, Q6_KAvx2)
