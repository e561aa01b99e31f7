#include "kernels/cpu/avx512/unpack.h"
#include "quant/q6_k/q6_k.h"

namespace mxgpt::quant {

struct Q6_KAvx512 : Q6_K {
  static constexpr int kBias = 32;
  static constexpr int kSubBlocks = offsetof(Block, sub_scales);
  static constexpr int kScaleWords[] = {kSubBlocks, kSubBlocks + 4, kSubBlocks + 8, kSubBlocks + 12,
                                        kSubBlocks + 14};
  static kernels::Avx512RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d,
                                     int g) {
    const int half_block = g / 4, quarter = g % 4;
    const auto half = [&](int at) {
      const int low_at = at + half_block * 64 + quarter % 2 * 32, high_at = at + half_block * 32;
      const __m512i low = kernels::avx512::extract_bits(
          kernels::avx512::load_4x128(a.nibbles + low_at, b.nibbles + low_at, c.nibbles + low_at,
                                      d.nibbles + low_at),
          quarter / 2 * 4, 0xf);
      const __m512i high = kernels::avx512::extract_bits(
          kernels::avx512::load_4x128(a.high + high_at, b.high + high_at, c.high + high_at,
                                      d.high + high_at),
          quarter * 2, 3);
      return _mm512_or_si512(low, _mm512_slli_epi16(high, 4));
    };
    return {half(0), half(16)};
  }
  static kernels::Avx512Scales scales(const __m512i* words, int g) {
    const __m512 unit = kernels::avx512::f16_high(words[4]);
    const auto part = [&](int p) {
      return kernels::avx512::scale_i32(unit, kernels::avx512::signed_byte(words[p / 4], p % 4));
    };
    return {.scale = {part(2 * g), part(2 * g + 1)}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX512(q6_k, Q6_KAvx512)
