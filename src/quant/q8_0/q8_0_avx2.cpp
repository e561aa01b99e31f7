#include "kernels/cpu/avx2/unpack.h"
#include "quant/q8_0/q8_0.h"

namespace mxgpt::quant {

struct Q8_0Avx2 : Q8_0 {
  static constexpr int kBias = 128;
  static kernels::Avx2RowPair load(const Block& a, const Block& b, int) {
    const __m256i sign = _mm256_set1_epi8(static_cast<char>(0x80));
    return {_mm256_xor_si256(kernels::avx2::load_2x128(a.q, b.q), sign),
            _mm256_xor_si256(kernels::avx2::load_2x128(a.q + 16, b.q + 16), sign)};
  }
  template <class Blocks>
  static kernels::Avx2Scales scales(const Blocks& block) {
    return {.scale = {kernels::avx2::load_f16_fields(block, &Block::scale)}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(q8_0, Q8_0Avx2)
