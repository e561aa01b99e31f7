#include "formats/avx2.h"
#include "formats/toy/toy.h"

namespace mxgpt {

struct ToyAvx2 : Toy {
  static Avx2Group load(const Block& block, int group) {
    return {.q = avx2::load32(block.q + group * kGroup),
            .scale = _mm256_set1_ps(avx2::f16(block.scale)),
            .offset = _mm256_set1_ps(avx2::f16(block.offset))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(toy, ToyAvx2)
