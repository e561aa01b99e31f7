#include "kernels/cpu/avx512/unpack.h"
#include "quant/q2_k/q2_k.h"

namespace mxgpt::quant {

struct Q2_KAvx512 : Q2_K {
  static constexpr int kBias = 0;
  static constexpr int kScaleWords[] = {0, 4, 8, 12, offsetof(Block, scale)};
  static kernels::Avx512RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d,
                                     int g) {
    const auto half = [&](int at) {
      at += g / 4 * 32;
      return kernels::avx512::extract_bits(
          kernels::avx512::load_4x128(a.q + at, b.q + at, c.q + at, d.q + at), g % 4 * 2, 3);
    };
    return {half(0), half(16)};
  }
  static kernels::Avx512Scales scales(const __m512i* words, int g) {
    const __m512 unit = kernels::avx512::f16_low(words[4]),
                 least = kernels::avx512::negate(kernels::avx512::f16_high(words[4]));
    const auto part = [&](int shift) {
      return kernels::avx512::bit_field(words[g / 2], g % 2 * 16 + shift, 0xf);
    };
    return {.scale = {kernels::avx512::scale_i32(unit, part(0)),
                      kernels::avx512::scale_i32(unit, part(8))},
            .offset = {kernels::avx512::scale_i32(least, part(4)),
                       kernels::avx512::scale_i32(least, part(12))}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX512(q2_k, Q2_KAvx512)
