#include "formats/avx512.h"
#include "formats/q2_k/q2_k.h"

namespace mxgpt {

struct Q2_KAvx512 : Q2_K {
  static constexpr int kBias = 0;
  static constexpr int kWords[] = {0, 4, 8, 12, offsetof(Block, scale)};
  static Avx512Quad load(const Block& a, const Block& b, const Block& c, const Block& d, int g) {
    const auto half = [&](int at) {
      at += g / 4 * 32;
      return avx512::bits_of(avx512::four(a.q + at, b.q + at, c.q + at, d.q + at), g % 4 * 2, 3);
    };
    return {half(0), half(16)};
  }
  static Avx512Scales scales(const __m512i* words, int g) {
    const __m512 unit = avx512::f16_low(words[4]),
                 least = avx512::minus(avx512::f16_high(words[4]));
    const auto part = [&](int shift) {
      return avx512::field(words[g / 2], g % 2 * 16 + shift, 0xf);
    };
    return {.scale = {avx512::times(unit, part(0)), avx512::times(unit, part(8))},
            .offset = {avx512::times(least, part(4)), avx512::times(least, part(12))}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX512(q2_k, Q2_KAvx512)
