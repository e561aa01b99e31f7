#include "kernels/cpu/avx512/unpack.h"
#include "quant/iq4_xs/iq4_xs.h"

namespace mxgpt::quant {

struct IQ4_XSAvx512 : IQ4_XS {
  static constexpr int kBias = 128;
  static constexpr int kScaleWords[] = {0, 4};
  static kernels::Avx512RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d,
                                     int g) {
    const int at = g * 16;
    return kernels::avx512::shuffle_lookup<kBias>(
        IQ4_NL::kValues, kernels::avx512::unpack_nibbles(kernels::avx512::load_4x128(
                             a.nibbles + at, b.nibbles + at, c.nibbles + at, d.nibbles + at)));
  }
  static kernels::Avx512Scales scales(const __m512i* words, int g) {
    const __m512i low = kernels::avx512::bit_field(words[1], g * 4, 0xf);
    const __m512i high = kernels::avx512::bit_field(words[0], 16 + g * 2, 3);
    const __m512i six = _mm512_or_si512(low, _mm512_slli_epi32(high, 4));
    return {.scale = {kernels::avx512::scale_i32(kernels::avx512::f16_low(words[0]),
                                                 _mm512_sub_epi32(six, _mm512_set1_epi32(32)))}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX512(iq4_xs, IQ4_XSAvx512)
