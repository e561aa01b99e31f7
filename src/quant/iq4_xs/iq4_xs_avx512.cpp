#include "kernels/cpu/avx512/unpack.h"
#include "quant/iq4_xs/iq4_xs.h"

namespace mxgpt::kernels::avx512 {

struct IQ4_XSAvx512 : quant::IQ4_XS {
  static constexpr int kBias = 128;
  static constexpr int kScaleWords[] = {0, 4};
  static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const int at = g * 16;
    return shuffle_lookup<kBias>(
        quant::IQ4_NL::kValues,
        unpack_nibbles(load_4x128(a.nibbles + at, b.nibbles + at, c.nibbles + at, d.nibbles + at)));
  }
  static GroupScales scales(const __m512i* words, int g) {
    const __m512i low = bit_field(words[1], g * 4, 0xf);
    const __m512i high = bit_field(words[0], 16 + g * 2, 3);
    const __m512i six = _mm512_or_si512(low, _mm512_slli_epi32(high, 4));
    return {.scale = {scale_i32(f16_low(words[0]), _mm512_sub_epi32(six, _mm512_set1_epi32(32)))}};
  }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(iq4_xs, IQ4_XSAvx512)
