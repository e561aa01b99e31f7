#include "kernels/cpu/avx2/unpack.h"
#include "quant/q5_0/q5_0.h"

namespace mxgpt::quant {

struct Q5_0Avx2 : Q5_0 {
  static constexpr int kBias = 16;
  static kernels::Avx2RowPair load(const Block& a, const Block& b, int) {
    const auto [low, high] = kernels::avx2::unpack_nibbles(a.nibbles, b.nibbles);
    const auto [fifth_low, fifth_high] = kernels::avx2::expand_bits(16, a.high, b.high);
    return {_mm256_or_si256(low, fifth_low), _mm256_or_si256(high, fifth_high)};
  }
  template <class Blocks>
  static kernels::Avx2Scales scales(const Blocks& block) {
    return {.scale = {kernels::avx2::load_f16_fields(block, &Block::scale)}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(q5_0, Q5_0Avx2)
