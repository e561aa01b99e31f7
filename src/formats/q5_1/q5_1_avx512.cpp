#include "formats/avx512.h"
#include "formats/q5_1/q5_1.h"

namespace mxgpt {

struct Q5_1Avx512 : Q5_1 {
  static constexpr int kBias = 0;
  static constexpr int kWords[] = {0};
  static Avx512Quad load(const Block& a, const Block& b, const Block& c, const Block& d, int) {
    const Avx512Quad low =
        avx512::nibbles(avx512::four(a.nibbles, b.nibbles, c.nibbles, d.nibbles));
    return avx512::with_bits(low, a.high, b.high, c.high, d.high, 16);
  }
  static Avx512Scales scales(const __m512i* words, int) {
    return {.scale = {avx512::f16_low(words[0])}, .offset = {avx512::f16_high(words[0])}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX512(q5_1, Q5_1Avx512)
