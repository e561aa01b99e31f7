#include "kernels/cpu/avx512/unpack.h"
#include "quant/iq4_nl/iq4_nl.h"

namespace mxgpt::quant {

struct IQ4_NLAvx512 : IQ4_NL {
  static constexpr int kBias = 128;
  static constexpr int kScaleWords[] = {0};
  static kernels::Avx512RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d,
                                     int) {
    return kernels::avx512::shuffle_lookup<kBias>(
        kValues, kernels::avx512::unpack_nibbles(
                     kernels::avx512::load_4x128(a.nibbles, b.nibbles, c.nibbles, d.nibbles)));
  }
  static kernels::Avx512Scales scales(const __m512i* words, int) {
    return {.scale = {kernels::avx512::f16_low(words[0])}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX512(iq4_nl, IQ4_NLAvx512)
