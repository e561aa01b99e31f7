#include "kernels/cpu/avx512/unpack.h"
#include "quant/q4_k/q4_k.h"

namespace mxgpt::quant {

struct Q4_KAvx512 : Q4_K {
  static constexpr int kBias = 0;
  static constexpr int kScaleWords[] = {0, 4, 8, 12};
  static kernels::Avx512RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d,
                                     int g) {
    const auto half = [&](int at) {
      at += g / 2 * 32;
      return kernels::avx512::extract_bits(
          kernels::avx512::load_4x128(a.nibbles + at, b.nibbles + at, c.nibbles + at,
                                      d.nibbles + at),
          g % 2 * 4, 0xf);
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

MXGPT_DEFINE_AVX512(q4_k, Q4_KAvx512)
