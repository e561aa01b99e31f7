#include "kernels/cpu/avx2/unpack.h"
#include "quant/q6_k/q6_k.h"

namespace mxgpt::kernels::avx2 {

struct Q6_KAvx2 : quant::Q6_K {
  static constexpr int kBias = 32;
  static RowPair load(const Block& a, const Block& b, int g) {
    const int half_block = g / 4, quarter = g % 4;
    const auto half = [&](int i) {
      const int at = half_block * 64 + quarter % 2 * 32 + i * 16;
      const int high_at = half_block * 32 + i * 16;
      const __m256i packed = load_2x128(a.nibbles + at, b.nibbles + at);
      const __m256i low = low_nibbles(_mm256_srli_epi16(packed, quarter / 2 * 4));
      const __m256i packed_high = load_2x128(a.high + high_at, b.high + high_at);
      const __m256i high =
          _mm256_and_si256(_mm256_srli_epi16(packed_high, quarter * 2), _mm256_set1_epi8(3));
      return _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
    };
    return {half(0), half(1)};
  }
  static GroupScales scales(const Block& block) {
    const __m128i sub_scales = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block.sub_scales));
    const auto [even, odd] = scale_i8_deinterleaved(half_to_f32(block.scale), sub_scales);
    return {.scale = {even, odd}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(q6_k, Q6_KAvx2)
