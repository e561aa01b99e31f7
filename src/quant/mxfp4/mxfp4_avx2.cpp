#include "kernels/cpu/avx2/unpack.h"
#include "quant/mxfp4/mxfp4.h"

namespace mxgpt::kernels::avx2 {

struct Mxfp4Avx2 : quant::Mxfp4 {
  static constexpr int kBias = 12;
  static __m256i bytes(__m256i nibbles) { return shuffle_lookup<kBias>(kE2m1Times2, nibbles); }
  static RowPair load(const Block& a, const Block& b, int) {
    const auto [low, high] = unpack_nibbles(a.nibbles, b.nibbles);
    return {bytes(low), bytes(high)};
  }
  template <class Blocks>
  static GroupScales scales(const Blocks& block) {
    const auto at = [&](int i) { return kHalfScales.of[block(i).scale]; };
    return {.scale = {_mm256_setr_ps(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7))}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(mxfp4, Mxfp4Avx2)
