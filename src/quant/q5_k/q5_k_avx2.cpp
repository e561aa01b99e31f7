#include "kernels/cpu/avx2/unpack.h"
#include "quant/q5_k/q5_k.h"

namespace mxgpt::kernels::avx2 {

struct Q5_KAvx2 : quant::Q5_K {
  static constexpr int kBias = 0;
  static RowPair load(const Block& a, const Block& b, int g) {
    const auto half = [&](int i) {
      const int at = g / 2 * 32 + i * 16;
      const __m256i packed = load_2x128(a.nibbles + at, b.nibbles + at);
      const __m256i low = low_nibbles(_mm256_srli_epi16(packed, g % 2 * 4));
      const __m256i high = _mm256_srli_epi16(load_2x128(a.high + i * 16, b.high + i * 16), g);
      const __m256i fifth = _mm256_and_si256(high, _mm256_set1_epi8(1));
      return _mm256_or_si256(low, _mm256_slli_epi16(fifth, 4));
    };
    return {half(0), half(1)};
  }
  static GroupScales scales(const Block& block) {
    return {.scale = {scale_u8(half_to_f32(block.scale), block.sub_scales.scales())},
            .offset = {scale_u8(-half_to_f32(block.min), block.sub_scales.mins())}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(q5_k, Q5_KAvx2)
