#include "formats/avx2.h"
#include "formats/q4_0/q4_0.h"

namespace mxgpt {

struct Q4_0Avx2 : Q4_0 {
  static Avx2Group load(const Block& block, int) {
    return {.q = _mm256_sub_epi8(avx2::nibbles(block.nibbles), _mm256_set1_epi8(8)),
            .scale = _mm256_set1_ps(avx2::f16(block.scale))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q4_0, Q4_0Avx2)
