#include "formats/avx512.h"
#include "formats/q4_1/q4_1.h"

namespace mxgpt {

struct Q4_1Avx512 : Q4_1 {
  static constexpr int kBias = 0;
  static constexpr int kWords[] = {0};
  static Avx512Quad load(const Block& a, const Block& b, const Block& c, const Block& d, int) {
    return avx512::nibbles(avx512::four(a.nibbles, b.nibbles, c.nibbles, d.nibbles));
  }
  static Avx512Scales scales(const __m512i* words, int) {
    return {.scale = {avx512::f16_low(words[0])}, .offset = {avx512::f16_high(words[0])}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX512(q4_1, Q4_1Avx512)
