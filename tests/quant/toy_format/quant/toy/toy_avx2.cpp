#include "kernels/cpu/avx2/unpack.h"
#include "quant/toy/toy.h"

namespace mxgpt::quant {

struct ToyAvx2 : Toy {
  static constexpr int kBias = 128;
  static kernels::Avx2RowPair load(const Block& a, const Block& b, int g) {
    const auto piece = [&](int i) {
      const int at = g * kQuantGroup + i * 16;
      return _mm256_xor_si256(kernels::avx2::load_2x128(a.q + at, b.q + at),
                              _mm256_set1_epi8(static_cast<char>(0x80)));
    };
    return {piece(0), piece(1)};
  }
  template <class Blocks>
  static kernels::Avx2Scales scales(const Blocks& block) {
    return {.scale = {kernels::avx2::load_f16_fields(block, &Block::scale)},
            .offset = {kernels::avx2::load_f16_fields(block, &Block::offset)}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(toy, ToyAvx2)
