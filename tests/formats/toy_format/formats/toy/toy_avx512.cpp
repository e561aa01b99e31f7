#include "formats/avx512.h"
#include "formats/toy/toy.h"

namespace mxgpt {

struct ToyAvx512 : Toy {
  static constexpr int kBias = 128;
  static constexpr int kWords[] = {0};
  static Avx512Quad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const int at = g * kGroup;
    const __m512i sign = _mm512_set1_epi8(-128);
    const auto half = [&](int i) {
      return _mm512_xor_si512(avx512::four(a.q + i, b.q + i, c.q + i, d.q + i), sign);
    };
    return {half(at), half(at + 16)};
  }
  static Avx512Scales scales(const __m512i* words, int) {
    return {.scale = {avx512::f16_low(words[0])}, .offset = {avx512::f16_high(words[0])}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX512(toy, ToyAvx512)
