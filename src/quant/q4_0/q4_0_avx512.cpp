#include "kernels/cpu/avx512/unpack.h"
#include "quant/q4_0/q4_0.h"

namespace mxgpt::kernels::avx512 {

struct Q4_0Avx512 : quant::Q4_0 {
  static constexpr int kBias = 8;
  static constexpr int kScaleWords[] = {0};
  static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int) {
    return unpack_nibbles(load_4x128(a.nibbles, b.nibbles, c.nibbles, d.nibbles));
  }
  static GroupScales scales(const __m512i* words, int) { return {.scale = {f16_low(words[0])}}; }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(q4_0, Q4_0Avx512)
