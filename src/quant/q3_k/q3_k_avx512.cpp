#include "kernels/cpu/avx512/unpack.h"
#include "quant/q3_k/q3_k.h"

namespace mxgpt::kernels::avx512 {

struct Q3_KAvx512 : quant::Q3_K {
  static constexpr int kBias = 4;
  static constexpr int kSubBlocks = offsetof(Block, sub_scales);
  static constexpr int kScaleWords[] = {kSubBlocks, kSubBlocks + 4, kSubBlocks + 8,
                                        kSubBlocks + 10};
  static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const auto half = [&](int at) {
      const int low_at = at + g / 4 * 32;
      const __m512i low = extract_bits(
          load_4x128(a.q + low_at, b.q + low_at, c.q + low_at, d.q + low_at), g % 4 * 2, 3);
      const __m512i high = load_4x128(a.high + at, b.high + at, c.high + at, d.high + at);
      const __mmask64 third =
          _mm512_test_epi8_mask(high, _mm512_set1_epi8(static_cast<char>(1 << g)));
      return _mm512_mask_add_epi8(low, third, low, _mm512_set1_epi8(4));
    };
    return {half(0), half(16)};
  }
  static GroupScales scales(const __m512i* words, int g) {
    const __m512 unit = f16_high(words[3]);
    const auto sub_scale = [&](int p) {
      const __m512i low = bit_field(words[p % 8 / 4], p % 4 * 8 + p / 8 * 4, 0xf);
      const __m512i high = bit_field(words[2], p % 4 * 8 + p / 4 * 2, 3);
      const __m512i six = _mm512_or_si512(low, _mm512_slli_epi32(high, 4));
      return scale_i32(unit, _mm512_sub_epi32(six, _mm512_set1_epi32(32)));
    };
    return {.scale = {sub_scale(2 * g), sub_scale(2 * g + 1)}};
  }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(q3_k, Q3_KAvx512)
