#include "kernels/cpu/avx2/unpack.h"
#include "quant/q8_0/q8_0.h"

namespace mxgpt::kernels::avx2 {

struct Q8_0Avx2 : quant::Q8_0 {
  static constexpr int kBias = 128;
  static RowPair load(const Block& a, const Block& b, int) {
    const __m256i sign = _mm256_set1_epi8(static_cast<char>(0x80));
    return {_mm256_xor_si256(load_2x128(a.q, b.q), sign),
            _mm256_xor_si256(load_2x128(a.q + 16, b.q + 16), sign)};
  }
  template <class Blocks>
  static GroupScales scales(const Blocks& block) {
    return {.scale = {load_f16_fields(block, &Block::scale)}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(q8_0, Q8_0Avx2)
