#include "formats/avx512.h"
#include "formats/q5_k/q5_k.h"

namespace mxgpt {

struct Q5_KAvx512 : Q5_K {
  static constexpr int kBias = 0;
  static constexpr int kWords[] = {0, 4, 8, 12};
  static Avx512Quad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const auto half = [&](int at) {
      const int low_at = at + g / 2 * 32;
      const __m512i low = avx512::bits_of(avx512::four(a.nibbles + low_at, b.nibbles + low_at,
                                                       c.nibbles + low_at, d.nibbles + low_at),
                                          g % 2 * 4, 0xf);
      const __m512i high = avx512::four(a.high + at, b.high + at, c.high + at, d.high + at);
      const __mmask64 fifth =
          _mm512_test_epi8_mask(high, _mm512_set1_epi8(static_cast<char>(1 << g)));
      return _mm512_mask_add_epi8(low, fifth, low, _mm512_set1_epi8(16));
    };
    return {half(0), half(16)};
  }
  static Avx512Scales scales(const __m512i* words, int g) {
    const avx512::KWords parts(words, g);
    return {.scale = {avx512::times(avx512::f16_low(words[0]), parts.scale)},
            .offset = {avx512::times(avx512::minus(avx512::f16_high(words[0])), parts.minimum)}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX512(q5_k, Q5_KAvx512)
