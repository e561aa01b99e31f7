#include "kernels/cpu/avx2/unpack.h"
#include "quant/q5_0/q5_0.h"

namespace mxgpt::kernels::avx2 {

struct Q5_0Avx2 : quant::Q5_0 {
  static constexpr int kBias = 16;
  static RowPair load(const Block& a, const Block& b, int) {
    const auto [low, high] = unpack_nibbles(a.nibbles, b.nibbles);
    const auto [fifth_low, fifth_high] = expand_bits(16, a.high, b.high);
    return {_mm256_or_si256(low, fifth_low), _mm256_or_si256(high, fifth_high)};
  }
  template <class Blocks>
  static GroupScales scales(const Blocks& block) {
    return {.scale = {load_f16_fields(block, &Block::scale)}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(q5_0, Q5_0Avx2)
