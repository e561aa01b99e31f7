#include "kernels/cpu/avx2/unpack.h"
#include "quant/q4_1/q4_1.h"

namespace mxgpt::kernels::avx2 {

struct Q4_1Avx2 : quant::Q4_1 {
  static constexpr int kBias = 0;
  static __m256i bytes(__m256i nibbles) { return nibbles; }
  static RowPair load(const Block& a, const Block& b, int) {
    const auto [low, high] = unpack_nibbles(a.nibbles, b.nibbles);
    return {bytes(low), bytes(high)};
  }
  template <class Blocks>
  static GroupScales scales(const Blocks& block) {
    return {.scale = {load_f16_fields(block, &Block::scale)},
            .offset = {load_f16_fields(block, &Block::min)}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(q4_1, Q4_1Avx2)
