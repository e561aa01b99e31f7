#include "kernels/cpu/avx512/unpack.h"
#include "quant/q6_k/q6_k.h"

namespace mxgpt::kernels::avx512 {

struct Q6_KAvx512 : quant::Q6_K {
  static constexpr int kBias = 32;
  static constexpr int kSubBlocks = offsetof(Block, sub_scales);
  static constexpr int kScaleWords[] = {kSubBlocks, kSubBlocks + 4, kSubBlocks + 8, kSubBlocks + 12,
                                        kSubBlocks + 14};
  static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const int half_block = g / 4, quarter = g % 4;
    const auto half = [&](int at) {
      const int low_at = at + half_block * 64 + quarter % 2 * 32, high_at = at + half_block * 32;
      const __m512i low = extract_bits(load_4x128(a.nibbles + low_at, b.nibbles + low_at,
                                                  c.nibbles + low_at, d.nibbles + low_at),
                                       quarter / 2 * 4, 0xf);
      const __m512i high = extract_bits(
          load_4x128(a.high + high_at, b.high + high_at, c.high + high_at, d.high + high_at),
          quarter * 2, 3);
      return _mm512_or_si512(low, _mm512_slli_epi16(high, 4));
    };
    return {half(0), half(16)};
  }
  static GroupScales scales(const __m512i* words, int g) {
    const __m512 unit = f16_high(words[4]);
    const auto sub_scale = [&](int p) { return scale_i32(unit, signed_byte(words[p / 4], p % 4)); };
    return {.scale = {sub_scale(2 * g), sub_scale(2 * g + 1)}};
  }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(q6_k, Q6_KAvx512)
