#include "kernels/cpu/avx512/unpack.h"
#include "quant/iq4_nl/iq4_nl.h"

namespace mxgpt::kernels::avx512 {

struct IQ4_NLAvx512 : quant::IQ4_NL {
  static constexpr int kBias = 128;
  static constexpr int kScaleWords[] = {0};
  static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int) {
    return shuffle_lookup<kBias>(
        kValues, unpack_nibbles(load_4x128(a.nibbles, b.nibbles, c.nibbles, d.nibbles)));
  }
  static GroupScales scales(const __m512i* words, int) { return {.scale = {f16_low(words[0])}}; }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(iq4_nl, IQ4_NLAvx512)
