#include "formats/avx2.h"
#include "formats/q4_k/q4_k.h"

namespace mxgpt {

struct Q4_KAvx2 : Q4_K {
  static constexpr int kBias = 0;
  static Avx2Pair load(const Block& a, const Block& b, int g) {
    const auto piece = [&](int i) {
      const int at = g / 2 * 32 + i * 16;
      const __m256i packed = avx2::both(a.nibbles + at, b.nibbles + at);
      return avx2::low_nibbles(_mm256_srli_epi16(packed, g % 2 * 4));
    };
    return {piece(0), piece(1)};
  }
  static Avx2Scales scales(const Block& block) {
    return {.scale = {avx2::times_bytes(avx2::f16(block.scale), block.parts.scales())},
            .offset = {avx2::times_bytes(-avx2::f16(block.minimum), block.parts.minima())}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q4_k, Q4_KAvx2)
