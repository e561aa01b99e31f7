#include "formats/avx2.h"
#include "formats/q4_k/q4_k.h"

namespace mxgpt {

struct Q4_KAvx2 : Q4_K {
  static Avx2Group load(const Block& block, int g) {
    const __m256i shifted = _mm256_srli_epi16(avx2::load32(block.nibbles + g / 2 * 32), g % 2 * 4);
    return {
        .q = _mm256_and_si256(shifted, _mm256_set1_epi8(0xf)),
        .scale = _mm256_set1_ps(avx2::f16(block.scale) * static_cast<float>(block.parts.scale(g))),
        .offset =
            _mm256_set1_ps(-avx2::f16(block.minimum) * static_cast<float>(block.parts.minimum(g)))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q4_k, Q4_KAvx2)
