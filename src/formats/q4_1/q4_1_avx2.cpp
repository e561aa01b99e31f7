#include "formats/avx2.h"
#include "formats/q4_1/q4_1.h"

namespace mxgpt {

struct Q4_1Avx2 : Q4_1 {
  static Avx2Group load(const Block& block, int) {
    return {.q = avx2::nibbles(block.nibbles),
            .scale = _mm256_set1_ps(avx2::f16(block.scale)),
            .offset = _mm256_set1_ps(avx2::f16(block.minimum))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q4_1, Q4_1Avx2)
