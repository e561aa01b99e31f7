#include "formats/avx2.h"
#include "formats/toy/toy.h"

namespace mxgpt {

struct ToyAvx2 : Toy {
  static constexpr int kBias = 128;
  static Avx2Pair load(const Block& a, const Block& b, int g) {
    const auto piece = [&](int i) {
      const int at = g * kGroup + i * 16;
      return _mm256_xor_si256(avx2::both(a.q + at, b.q + at),
                              _mm256_set1_epi8(static_cast<char>(0x80)));
    };
    return {piece(0), piece(1)};
  }
  template <class Blocks>
  static Avx2Scales scales(const Blocks& block) {
    return {.scale = {avx2::f16s(block, &Block::scale)},
            .offset = {avx2::f16s(block, &Block::offset)}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(toy, ToyAvx2)
