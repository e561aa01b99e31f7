#include "kernels/cpu/avx512/unpack.h"
#include "quant/q5_k/q5_k.h"

namespace mxgpt::quant {

struct Q5_KAvx512 : Q5_K {
  static constexpr int kBias = 0;
  static constexpr int kScaleWords[] = {0, 4, 8, 12};
  static kernels::Avx512RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d,
                                     int g) {
    const auto half = [&](int at) {
      const int low_at = at + g / 2 * 32;
      const __m512i low = kernels::avx512::extract_bits(
          kernels::avx512::load_4x128(a.nibbles + low_at, b.nibbles + low_at, c.nibbles + low_at,
                                      d.nibbles + low_at),
          g % 2 * 4, 0xf);
      const __m512i high =
          kernels::avx512::load_4x128(a.high + at, b.high + at, c.high + at, d.high + at);
      const __mmask64 fifth =
          _mm512_test_epi8_mask(high, _mm512_set1_epi8(static_cast<char>(1 << g)));
      return _mm512_mask_add_epi8(low, fifth, low, _mm512_set1_epi8(16));
    };
    return {half(0), half(16)};
  }
  static kernels::Avx512Scales scales(const __m512i* words, int g) {
    const kernels::avx512::KQuantScaleWords parts(words, g);
    return {.scale = {kernels::avx512::scale_i32(kernels::avx512::f16_low(words[0]), parts.scale)},
            .offset = {kernels::avx512::scale_i32(
                kernels::avx512::negate(kernels::avx512::f16_high(words[0])), parts.min)}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX512(q5_k, Q5_KAvx512)
