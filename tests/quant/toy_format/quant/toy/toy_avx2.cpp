#include "kernels/cpu/avx2/unpack.h"
#include "quant/toy/toy.h"

namespace mxgpt::kernels::avx2 {

struct ToyAvx2 : quant::Toy {
  static constexpr int kBias = 128;
  static RowPair load(const Block& a, const Block& b, int g) {
    const auto half = [&](int i) {
      const int at = g * quant::kQuantGroup + i * 16;
      return _mm256_xor_si256(load_2x128(a.q + at, b.q + at),
                              _mm256_set1_epi8(static_cast<char>(0x80)));
    };
    return {half(0), half(1)};
  }
  template <class Blocks>
  static GroupScales scales(const Blocks& block) {
    return {.scale = {load_f16_fields(block, &Block::scale)},
            .offset = {load_f16_fields(block, &Block::offset)}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(toy, ToyAvx2)
