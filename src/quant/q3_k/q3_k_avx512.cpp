#include "kernels/cpu/avx512/unpack.h"
#include "quant/q3_k/q3_k.h"

namespace mxgpt::quant {

struct Q3_KAvx512 : Q3_K {
  static constexpr int kBias = 4;
  static constexpr int kSubBlocks = offsetof(Block, sub_scales);
  static constexpr int kScaleWords[] = {kSubBlocks, kSubBlocks + 4, kSubBlocks + 8,
                                        kSubBlocks + 10};
  static kernels::Avx512RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d,
                                     int g) {
    const auto half = [&](int at) {
      const int low_at = at + g / 4 * 32;
      const __m512i low = kernels::avx512::extract_bits(
          kernels::avx512::load_4x128(a.q + low_at, b.q + low_at, c.q + low_at, d.q + low_at),
          g % 4 * 2, 3);
      const __m512i high =
          kernels::avx512::load_4x128(a.high + at, b.high + at, c.high + at, d.high + at);
      const __mmask64 third =
          _mm512_test_epi8_mask(high, _mm512_set1_epi8(static_cast<char>(1 << g)));
      return _mm512_mask_add_epi8(low, third, low, _mm512_set1_epi8(4));
    };
    return {half(0), half(16)};
  }
  static kernels::Avx512Scales scales(const __m512i* words, int g) {
    const __m512 unit = kernels::avx512::f16_high(words[3]);
    const auto part = [&](int p) {
      const __m512i low = kernels::avx512::bit_field(words[p % 8 / 4], p % 4 * 8 + p / 8 * 4, 0xf);
      const __m512i high = kernels::avx512::bit_field(words[2], p % 4 * 8 + p / 4 * 2, 3);
      const __m512i six = _mm512_or_si512(low, _mm512_slli_epi32(high, 4));
      return kernels::avx512::scale_i32(unit, _mm512_sub_epi32(six, _mm512_set1_epi32(32)));
    };
    return {.scale = {part(2 * g), part(2 * g + 1)}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX512(q3_k, Q3_KAvx512)
