#include "formats/avx2.h"
#include "formats/q5_0/q5_0.h"

namespace mxgpt {

struct Q5_0Avx2 : Q5_0 {
  static constexpr int kBias = 16;
  static Avx2Pair load(const Block& a, const Block& b, int) {
    const auto [low, high] = avx2::nibbles(a.nibbles, b.nibbles);
    const auto [fifth_low, fifth_high] = avx2::bits_as(16, a.high, b.high);
    return {_mm256_or_si256(low, fifth_low), _mm256_or_si256(high, fifth_high)};
  }
  template <class Blocks>
  static Avx2Scales scales(const Blocks& block) {
    return {.scale = {avx2::f16s(block, &Block::scale)}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q5_0, Q5_0Avx2)
