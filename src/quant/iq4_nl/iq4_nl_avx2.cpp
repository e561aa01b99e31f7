#include "kernels/cpu/avx2/unpack.h"
#include "quant/iq4_nl/iq4_nl.h"

namespace mxgpt::quant {

struct IQ4_NLAvx2 : IQ4_NL {
  static constexpr int kBias = 127;
  static __m256i bytes(__m256i nibbles) {
    return kernels::avx2::shuffle_lookup<kBias>(kValues, nibbles);
  }
  static kernels::Avx2RowPair load(const Block& a, const Block& b, int) {
    const auto [low, high] = kernels::avx2::unpack_nibbles(a.nibbles, b.nibbles);
    return {bytes(low), bytes(high)};
  }
  template <class Blocks>
  static kernels::Avx2Scales scales(const Blocks& block) {
    return {.scale = {kernels::avx2::load_f16_fields(block, &Block::scale)}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(iq4_nl, IQ4_NLAvx2)
