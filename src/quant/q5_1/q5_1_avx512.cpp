#include "kernels/cpu/avx512/unpack.h"
#include "quant/q5_1/q5_1.h"

namespace mxgpt::quant {

struct Q5_1Avx512 : Q5_1 {
  static constexpr int kBias = 0;
  static constexpr int kScaleWords[] = {0};
  static kernels::Avx512RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d,
                                     int) {
    const kernels::Avx512RowQuad low = kernels::avx512::unpack_nibbles(
        kernels::avx512::load_4x128(a.nibbles, b.nibbles, c.nibbles, d.nibbles));
    return kernels::avx512::add_bits(low, a.high, b.high, c.high, d.high, 16);
  }
  static kernels::Avx512Scales scales(const __m512i* words, int) {
    return {.scale = {kernels::avx512::f16_low(words[0])},
            .offset = {kernels::avx512::f16_high(words[0])}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX512(q5_1, Q5_1Avx512)
