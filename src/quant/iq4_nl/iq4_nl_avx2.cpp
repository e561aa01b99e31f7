#include "kernels/cpu/avx2/unpack.h"
#include "quant/iq4_nl/iq4_nl.h"

namespace mxgpt::kernels::avx2 {

struct IQ4_NLAvx2 : quant::IQ4_NL {
  static constexpr int kBias = 127;
  static __m256i bytes(__m256i nibbles) { return shuffle_lookup<kBias>(kValues, nibbles); }
  static RowPair load(const Block& a, const Block& b, int) {
    const auto [low, high] = unpack_nibbles(a.nibbles, b.nibbles);
    return {bytes(low), bytes(high)};
  }
  template <class Blocks>
  static GroupScales scales(const Blocks& block) {
    return {.scale = {load_f16_fields(block, &Block::scale)}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(iq4_nl, IQ4_NLAvx2)
