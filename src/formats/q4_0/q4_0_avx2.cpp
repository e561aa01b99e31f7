#include "formats/avx2.h"
#include "formats/q4_0/q4_0.h"

namespace mxgpt {

struct Q4_0Avx2 : Q4_0 {
  static constexpr int kBias = 8;
  static Avx2Pair load(const Block& a, const Block& b, int) {
    return avx2::nibbles(a.nibbles, b.nibbles);
  }
  template <class Blocks>
  static Avx2Scales scales(const Blocks& block) {
    return {.scale = {avx2::f16s(block, &Block::scale)}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q4_0, Q4_0Avx2)
