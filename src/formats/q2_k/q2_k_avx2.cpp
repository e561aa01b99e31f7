#include "formats/avx2.h"
#include "formats/q2_k/q2_k.h"

namespace mxgpt {

struct Q2_KAvx2 : Q2_K {
  static constexpr int kBias = 0;
  static Avx2Pair load(const Block& a, const Block& b, int g) {
    const auto piece = [&](int i) {
      const int at = g / 4 * 32 + i * 16;
      const __m256i packed = avx2::both(a.q + at, b.q + at);
      return _mm256_and_si256(_mm256_srli_epi16(packed, g % 4 * 2), _mm256_set1_epi8(3));
    };
    return {piece(0), piece(1)};
  }
  static Avx2Scales scales(const Block& block) {
    const __m128i parts = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block.parts));
    const __m128i nibble = _mm_set1_epi8(0xf);
    const auto [even, odd] =
        avx2::times_even_odd(avx2::f16(block.scale), _mm_and_si128(parts, nibble));
    const auto [even_minimum, odd_minimum] = avx2::times_even_odd(
        -avx2::f16(block.minimum), _mm_and_si128(_mm_srli_epi16(parts, 4), nibble));
    return {.scale = {even, odd}, .offset = {even_minimum, odd_minimum}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q2_k, Q2_KAvx2)
