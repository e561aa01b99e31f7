#include "formats/avx2.h"
#include "formats/q8_0/q8_0.h"

namespace mxgpt {

struct Q8_0Avx2 : Q8_0 {
  static constexpr int kBias = 128;
  static Avx2Pair load(const Block& a, const Block& b, int) {
    const __m256i sign = _mm256_set1_epi8(static_cast<char>(0x80));
    return {_mm256_xor_si256(avx2::both(a.q, b.q), sign),
            _mm256_xor_si256(avx2::both(a.q + 16, b.q + 16), sign)};
  }
  template <class Blocks>
  static Avx2Scales scales(const Blocks& block) {
    return {.scale = {avx2::f16s(block, &Block::scale)}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(q8_0, Q8_0Avx2)
