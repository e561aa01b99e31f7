#include "formats/avx2.h"
#include "formats/q8_0/q8_0.h"

namespace mxgpt {

struct Q8_0Avx2 : Q8_0 {
  static Avx2Group load(const Block& block, int) {
    return {.q = avx2::load32(block.q), .scale = _mm256_set1_ps(avx2::f16(block.scale))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q8_0, Q8_0Avx2)
