#include "formats/avx512.h"
#include "formats/q3_k/q3_k.h"

namespace mxgpt {

struct Q3_KAvx512 : Q3_K {
  static constexpr int kBias = 4;
  static constexpr int kParts = offsetof(Block, parts);
  static constexpr int kWords[] = {kParts, kParts + 4, kParts + 8, kParts + 10};
  static Avx512Quad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const auto half = [&](int at) {
      const int low_at = at + g / 4 * 32;
      const __m512i low = avx512::bits_of(
          avx512::four(a.q + low_at, b.q + low_at, c.q + low_at, d.q + low_at), g % 4 * 2, 3);
      const __m512i high = avx512::four(a.high + at, b.high + at, c.high + at, d.high + at);
      const __mmask64 third =
          _mm512_test_epi8_mask(high, _mm512_set1_epi8(static_cast<char>(1 << g)));
      return _mm512_mask_add_epi8(low, third, low, _mm512_set1_epi8(4));
    };
    return {half(0), half(16)};
  }
  static Avx512Scales scales(const __m512i* words, int g) {
    const __m512 unit = avx512::f16_high(words[3]);
    const auto part = [&](int p) {
      const __m512i low = avx512::field(words[p % 8 / 4], p % 4 * 8 + p / 8 * 4, 0xf);
      const __m512i high = avx512::field(words[2], p % 4 * 8 + p / 4 * 2, 3);
      const __m512i six = _mm512_or_si512(low, _mm512_slli_epi32(high, 4));
      return avx512::times(unit, _mm512_sub_epi32(six, _mm512_set1_epi32(32)));
    };
    return {.scale = {part(2 * g), part(2 * g + 1)}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX512(q3_k, Q3_KAvx512)
