#include "kernels/cpu/avx512/unpack.h"
#include "quant/q4_k/q4_k.h"

namespace mxgpt::kernels::avx512 {

struct Q4_KAvx512 : quant::Q4_K {
  static constexpr int kBias = 0;
  static constexpr int kScaleWords[] = {0, 4, 8, 12};
  static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const auto half = [&](int at) {
      at += g / 2 * 32;
      return extract_bits(
          load_4x128(a.nibbles + at, b.nibbles + at, c.nibbles + at, d.nibbles + at), g % 2 * 4,
          0xf);
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

MXGPT_DEFINE_AVX512(q4_k, Q4_KAvx512)
