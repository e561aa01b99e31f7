#include "formats/avx2.h"
#include "formats/iq4_nl/iq4_nl.h"

namespace mxgpt {

struct IQ4_NLAvx2 : IQ4_NL {
  static Avx2Group load(const Block& block, int) {
    return {.q = avx2::look_up(kValues, avx2::nibbles(block.nibbles)),
            .scale = _mm256_set1_ps(avx2::f16(block.scale))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(iq4_nl, IQ4_NLAvx2)
