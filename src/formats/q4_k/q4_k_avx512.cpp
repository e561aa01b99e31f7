#include "formats/avx512.h"
#include "formats/q4_k/q4_k.h"

namespace mxgpt {

struct Q4_KAvx512 : Q4_K {
  static constexpr int kBias = 0;
  static constexpr int kWords[] = {0, 4, 8, 12};
  static Avx512Quad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const auto half = [&](int at) {
      at += g / 2 * 32;
      return avx512::bits_of(
          avx512::four(a.nibbles + at, b.nibbles + at, c.nibbles + at, d.nibbles + at), g % 2 * 4,
          0xf);
    };
    return {half(0), half(16)};
  }
  static Avx512Scales scales(const __m512i* words, int g) {
    const avx512::KWords parts(words, g);
    return {.scale = {avx512::times(avx512::f16_low(words[0]), parts.scale)},
            .offset = {avx512::times(avx512::minus(avx512::f16_high(words[0])), parts.minimum)}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX512(q4_k, Q4_KAvx512)
