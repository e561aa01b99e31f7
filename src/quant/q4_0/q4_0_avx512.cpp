#include "kernels/cpu/avx512/unpack.h"
#include "quant/q4_0/q4_0.h"

namespace mxgpt::quant {

struct Q4_0Avx512 : Q4_0 {
  static constexpr int kBias = 8;
  static constexpr int kScaleWords[] = {0};
  static kernels::Avx512RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d,
                                     int) {
    return kernels::avx512::unpack_nibbles(
        kernels::avx512::load_4x128(a.nibbles, b.nibbles, c.nibbles, d.nibbles));
  }
  static kernels::Avx512Scales scales(const __m512i* words, int) {
    return {.scale = {kernels::avx512::f16_low(words[0])}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX512(q4_0, Q4_0Avx512)
