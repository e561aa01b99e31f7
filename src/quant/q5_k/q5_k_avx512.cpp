#include "kernels/cpu/avx512/unpack.h"
#include "quant/q5_k/q5_k.h"

namespace mxgpt::kernels::avx512 {

struct Q5_KAvx512 : quant::Q5_K {
  static constexpr int kBias = 0;
  static constexpr int kScaleWords[] = {0, 4, 8, 12};
  static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const auto half = [&](int at) {
      const int low_at = at + g / 2 * 32;
      const __m512i low = extract_bits(load_4x128(a.nibbles + low_at, b.nibbles + low_at,
                                                  c.nibbles + low_at, d.nibbles + low_at),
                                       g % 2 * 4, 0xf);
      const __m512i high = load_4x128(a.high + at, b.high + at, c.high + at, d.high + at);
      const __mmask64 fifth =
          _mm512_test_epi8_mask(high, _mm512_set1_epi8(static_cast<char>(1 << g)));
      return _mm512_mask_add_epi8(low, fifth, low, _mm512_set1_epi8(16));
    };
    return {half(0), half(16)};
  }
  static GroupScales scales(const __m512i* words, int g) {
    const KQuantScaleWords sub_scales(words, g);
    return {.scale = {scale_i32(f16_low(words[0]), sub_scales.scale)},
            .offset = {scale_i32(negate(f16_high(words[0])), sub_scales.min)}};
  }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(q5_k, Q5_KAvx512)
