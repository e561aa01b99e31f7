#include "formats/avx512.h"
#include "formats/iq4_nl/iq4_nl.h"

namespace mxgpt {

struct IQ4_NLAvx512 : IQ4_NL {
  static constexpr int kBias = 128;
  static constexpr int kWords[] = {0};
  static Avx512Quad load(const Block& a, const Block& b, const Block& c, const Block& d, int) {
    return avx512::look_up<kBias>(
        kValues, avx512::nibbles(avx512::four(a.nibbles, b.nibbles, c.nibbles, d.nibbles)));
  }
  static Avx512Scales scales(const __m512i* words, int) {
    return {.scale = {avx512::f16_low(words[0])}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX512(iq4_nl, IQ4_NLAvx512)
