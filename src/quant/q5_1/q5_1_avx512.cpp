#include "kernels/cpu/avx512/unpack.h"
#include "quant/q5_1/q5_1.h"

namespace mxgpt::kernels::avx512 {

struct Q5_1Avx512 : quant::Q5_1 {
  static constexpr int kBias = 0;
  static constexpr int kScaleWords[] = {0};
  static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int) {
    const RowQuad low = unpack_nibbles(load_4x128(a.nibbles, b.nibbles, c.nibbles, d.nibbles));
    return add_bits(low, a.high, b.high, c.high, d.high, 16);
  }
  static GroupScales scales(const __m512i* words, int) {
    return {.scale = {f16_low(words[0])}, .offset = {f16_high(words[0])}};
  }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(q5_1, Q5_1Avx512)
