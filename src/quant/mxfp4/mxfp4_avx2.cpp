#include "kernels/cpu/avx2/unpack.h"
#include "quant/mxfp4/mxfp4.h"

namespace mxgpt::quant {

struct Mxfp4Avx2 : Mxfp4 {
  static constexpr int kBias = 12;
  static __m256i bytes(__m256i nibbles) {
    return kernels::avx2::shuffle_lookup<kBias>(kE2m1Times2, nibbles);
  }
  static kernels::Avx2RowPair load(const Block& a, const Block& b, int) {
    const auto [low, high] = kernels::avx2::unpack_nibbles(a.nibbles, b.nibbles);
    return {bytes(low), bytes(high)};
  }
  template <class Blocks>
  static kernels::Avx2Scales scales(const Blocks& block) {
    const auto at = [&](int i) { return kHalfScale[block(i).scale]; };
    return {.scale = {_mm256_setr_ps(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7))}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(mxfp4, Mxfp4Avx2)
