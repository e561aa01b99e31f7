#include "kernels/cpu/avx2/unpack.h"
#include "quant/q5_1/q5_1.h"

namespace mxgpt::kernels::avx2 {

struct Q5_1Avx2 : quant::Q5_1 {
  static constexpr int kBias = 0;
  static RowPair load(const Block& a, const Block& b, int) {
    const auto [low, high] = unpack_nibbles(a.nibbles, b.nibbles);
    const auto [fifth_low, fifth_high] = expand_bits(16, a.high, b.high);
    return {_mm256_or_si256(low, fifth_low), _mm256_or_si256(high, fifth_high)};
  }
  template <class Blocks>
  static GroupScales scales(const Blocks& block) {
    return {.scale = {load_f16_fields(block, &Block::scale)},
            .offset = {load_f16_fields(block, &Block::min)}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(q5_1, Q5_1Avx2)
