#include "formats/avx2.h"
#include "formats/iq4_nl/iq4_nl.h"

namespace mxgpt {

struct IQ4_NLAvx2 : IQ4_NL {
  static constexpr int kBias = 127;
  static __m256i bytes(__m256i nibbles) { return avx2::look_up<kBias>(kValues, nibbles); }
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

MXGPT_DEFINE_AVX2(iq4_nl, IQ4_NLAvx2)
