#include "formats/avx2.h"
#include "formats/q5_0/q5_0.h"

namespace mxgpt {

struct Q5_0Avx2 : Q5_0 {
  static Avx2Group load(const Block& block, int) {
    // Without the fifth bit q is low - 16: the upper four bits of the byte are ones.
    const __m256i missing = _mm256_andnot_si256(avx2::bit_masks(block.high), _mm256_set1_epi8(-16));
    return {.q = _mm256_or_si256(avx2::nibbles(block.nibbles), missing),
            .scale = _mm256_set1_ps(avx2::f16(block.scale))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q5_0, Q5_0Avx2)
