#include "formats/avx2.h"
#include "formats/iq4_xs/iq4_xs.h"

namespace mxgpt {

struct IQ4_XSAvx2 : IQ4_XS {
  static Avx2Group load(const Block& block, int g) {
    return {
        .q = avx2::look_up(IQ4_NL::kValues, avx2::nibbles(block.nibbles + g * 16)),
        .scale = _mm256_set1_ps(avx2::f16(block.scale) * static_cast<float>(part_scale(block, g)))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(iq4_xs, IQ4_XSAvx2)
