#include "formats/avx2.h"
#include "formats/q5_k/q5_k.h"

namespace mxgpt {

struct Q5_KAvx2 : Q5_K {
  static constexpr int kBias = 0;
  static Avx2Pair load(const Block& a, const Block& b, int g) {
    const auto piece = [&](int i) {
      const int at = g / 2 * 32 + i * 16;
      const __m256i packed = avx2::both(a.nibbles + at, b.nibbles + at);
      const __m256i low = avx2::low_nibbles(_mm256_srli_epi16(packed, g % 2 * 4));
      const __m256i high = _mm256_srli_epi16(avx2::both(a.high + i * 16, b.high + i * 16), g);
      const __m256i fifth = _mm256_and_si256(high, _mm256_set1_epi8(1));
      return _mm256_or_si256(low, _mm256_slli_epi16(fifth, 4));
    };
    return {piece(0), piece(1)};
  }
  static Avx2Scales scales(const Block& block) {
    return {.scale = {avx2::times_bytes(avx2::f16(block.scale), block.parts.scales())},
            .offset = {avx2::times_bytes(-avx2::f16(block.minimum), block.parts.minima())}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q5_k, Q5_KAvx2)
