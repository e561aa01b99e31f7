#include "formats/avx512.h"
#include "formats/iq4_xs/iq4_xs.h"

namespace mxgpt {

struct IQ4_XSAvx512 : IQ4_XS {
  static constexpr int kBias = 128;
  static constexpr int kWords[] = {0, 4};
  static Avx512Quad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const int at = g * 16;
    return avx512::look_up<kBias>(IQ4_NL::kValues,
                                  avx512::nibbles(avx512::four(a.nibbles + at, b.nibbles + at,
                                                               c.nibbles + at, d.nibbles + at)));
  }
  static Avx512Scales scales(const __m512i* words, int g) {
    const __m512i low = avx512::field(words[1], g * 4, 0xf);
    const __m512i high = avx512::field(words[0], 16 + g * 2, 3);
    const __m512i six = _mm512_or_si512(low, _mm512_slli_epi32(high, 4));
    return {.scale = {avx512::times(avx512::f16_low(words[0]),
                                    _mm512_sub_epi32(six, _mm512_set1_epi32(32)))}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX512(iq4_xs, IQ4_XSAvx512)
