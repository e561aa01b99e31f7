#include "formats/avx2.h"
#include "formats/q4_0/q4_0.h"

namespace mxgpt {

struct Q4_0Avx2 : Q4_0 {
  static constexpr int kBias = 8;
  static __m256i bytes(__m256i nibbles) { return nibbles; }
  static Avx2Pair load(const Block& a, const Block& b, int) {
    const auto [low, high] = avx2::nibbles(a.nibbles, b.nibbles);
    return {bytes(low), bytes(high)};
  }
  template <class Blocks>
  static Avx2Scales scales(const Blocks& block) {
    return {.scale = {avx2::f16s(block, &Block::scale)}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q4_0, Q4_0Avx2)
