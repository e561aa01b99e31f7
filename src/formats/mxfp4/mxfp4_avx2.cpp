#include "formats/avx2.h"
#include "formats/mxfp4/mxfp4.h"

namespace mxgpt {

struct Mxfp4Avx2 : Mxfp4 {
  static constexpr int kBias = 12;
  static __m256i bytes(__m256i nibbles) { return avx2::look_up<kBias>(kDoubled, nibbles); }
  static Avx2Pair load(const Block& a, const Block& b, int) {
    const auto [low, high] = avx2::nibbles(a.nibbles, b.nibbles);
    return {bytes(low), bytes(high)};
  }
  template <class Blocks>
  static Avx2Scales scales(const Blocks& block) {
    const auto at = [&](int i) { return kHalfScale[block(i).scale]; };
    return {.scale = {_mm256_setr_ps(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7))}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(mxfp4, Mxfp4Avx2)
