#include "formats/avx512.h"
#include "formats/q8_0/q8_0.h"

namespace mxgpt {

struct Q8_0Avx512 : Q8_0 {
  static constexpr int kBias = 128;
  static constexpr int kWords[] = {0};
  static Avx512Quad load(const Block& a, const Block& b, const Block& c, const Block& d, int) {
    const __m512i sign = _mm512_set1_epi8(-128);
    return {_mm512_xor_si512(avx512::four(a.q, b.q, c.q, d.q), sign),
            _mm512_xor_si512(avx512::four(a.q + 16, b.q + 16, c.q + 16, d.q + 16), sign)};
  }
  static Avx512Scales scales(const __m512i* words, int) {
    return {.scale = {avx512::f16_low(words[0])}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX512(q8_0, Q8_0Avx512)
