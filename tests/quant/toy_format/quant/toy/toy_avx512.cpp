#include "kernels/cpu/avx512/unpack.h"
#include "quant/toy/toy.h"

namespace mxgpt::kernels::avx512 {

struct ToyAvx512 : quant::Toy {
  static constexpr int kBias = 128;
  static constexpr int kScaleWords[] = {0};
  static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const int at = g * quant::kQuantGroup;
    const __m512i sign = _mm512_set1_epi8(-128);
    const auto half = [&](int i) {
      return _mm512_xor_si512(load_4x128(a.q + i, b.q + i, c.q + i, d.q + i), sign);
    };
    return {half(at), half(at + 16)};
  }
  static GroupScales scales(const __m512i* words, int) {
    return {.scale = {f16_low(words[0])}, .offset = {f16_high(words[0])}};
  }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(toy, ToyAvx512)
