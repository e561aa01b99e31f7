#include "kernels/cpu/avx2/unpack.h"
#include "quant/q4_1/q4_1.h"

namespace mxgpt::quant {

struct Q4_1Avx2 : Q4_1 {
  static constexpr int kBias = 0;
  static __m256i bytes(__m256i nibbles) { return nibbles; }
  static kernels::Avx2RowPair load(const Block& a, const Block& b, int) {
    const auto [low, high] = kernels::avx2::unpack_nibbles(a.nibbles, b.nibbles);
    return {bytes(low), bytes(high)};
  }
  template <class Blocks>
  static kernels::Avx2Scales scales(const Blocks& block) {
    return {.scale = {kernels::avx2::load_f16_fields(block, &Block::scale)},
            .offset = {kernels::avx2::load_f16_fields(block, &Block::min)}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(q4_1, Q4_1Avx2)
