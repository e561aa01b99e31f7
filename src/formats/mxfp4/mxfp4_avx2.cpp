#include "formats/avx2.h"
#include "formats/mxfp4/mxfp4.h"

namespace mxgpt {

struct Mxfp4Avx2 : Mxfp4 {
  static Avx2Group load(const Block& block, int) {
    return {.q = avx2::look_up(kDoubled, avx2::nibbles(block.nibbles)),
            .scale = _mm256_broadcast_ss(&kHalfScale[block.scale])};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(mxfp4, Mxfp4Avx2)
