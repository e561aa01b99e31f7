#include "kernels/cpu/avx512/unpack.h"
#include "quant/q2_k/q2_k.h"

namespace mxgpt::kernels::avx512 {

struct Q2_KAvx512 : quant::Q2_K {
  static constexpr int kBias = 0;
  static constexpr int kScaleWords[] = {0, 4, 8, 12, offsetof(Block, scale)};
  static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const auto half = [&](int at) {
      at += g / 4 * 32;
      return extract_bits(load_4x128(a.q + at, b.q + at, c.q + at, d.q + at), g % 4 * 2, 3);
    };
    return {half(0), half(16)};
  }
  static GroupScales scales(const __m512i* words, int g) {
    const __m512 unit = f16_low(words[4]), min_unit = negate(f16_high(words[4]));
    const auto sub_scale = [&](int shift) {
      return bit_field(words[g / 2], g % 2 * 16 + shift, 0xf);
    };
    return {.scale = {scale_i32(unit, sub_scale(0)), scale_i32(unit, sub_scale(8))},
            .offset = {scale_i32(min_unit, sub_scale(4)), scale_i32(min_unit, sub_scale(12))}};
  }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(q2_k, Q2_KAvx512)
