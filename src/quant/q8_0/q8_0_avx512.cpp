#include "kernels/cpu/avx512/unpack.h"
#include "quant/q8_0/q8_0.h"

namespace mxgpt::kernels::avx512 {

struct Q8_0Avx512 : quant::Q8_0 {
  static constexpr int kBias = 128;
  static constexpr int kScaleWords[] = {0};
  static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int) {
    const __m512i sign = _mm512_set1_epi8(-128);
    return {_mm512_xor_si512(load_4x128(a.q, b.q, c.q, d.q), sign),
            _mm512_xor_si512(load_4x128(a.q + 16, b.q + 16, c.q + 16, d.q + 16), sign)};
  }
  static GroupScales scales(const __m512i* words, int) { return {.scale = {f16_low(words[0])}}; }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(q8_0, Q8_0Avx512)
