#include "formats/avx2.h"
#include "formats/q5_k/q5_k.h"

namespace mxgpt {

struct Q5_KAvx2 : Q5_K {
  static Avx2Group load(const Block& block, int g) {
    const __m256i shifted = _mm256_srli_epi16(avx2::load32(block.nibbles + g / 2 * 32), g % 2 * 4);
    const __m256i low = _mm256_and_si256(shifted, _mm256_set1_epi8(0xf));
    const __m256i bit =
        _mm256_and_si256(_mm256_srli_epi16(avx2::load32(block.high), g), _mm256_set1_epi8(1));
    return {
        .q = _mm256_or_si256(low, _mm256_slli_epi16(bit, 4)),
        .scale = _mm256_set1_ps(avx2::f16(block.scale) * static_cast<float>(block.parts.scale(g))),
        .offset =
            _mm256_set1_ps(-avx2::f16(block.minimum) * static_cast<float>(block.parts.minimum(g)))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q5_k, Q5_KAvx2)
