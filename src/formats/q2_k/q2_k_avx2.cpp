#include "formats/avx2.h"
#include "formats/q2_k/q2_k.h"

namespace mxgpt {

struct Q2_KAvx2 : Q2_K {
  static Avx2Group load(const Block& block, int g) {
    const __m256i shifted = _mm256_srli_epi16(avx2::load32(block.q + g / 4 * 32), g % 4 * 2);
    const uint8_t* parts = block.parts + 2 * g;
    return {.q = _mm256_and_si256(shifted, _mm256_set1_epi8(3)),
            .scale = _mm256_mul_ps(_mm256_set1_ps(avx2::f16(block.scale)),
                                   avx2::halves(parts[0] & 0xf, parts[1] & 0xf)),
            .offset = _mm256_mul_ps(_mm256_set1_ps(-avx2::f16(block.minimum)),
                                    avx2::halves(parts[0] >> 4, parts[1] >> 4))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q2_k, Q2_KAvx2)
