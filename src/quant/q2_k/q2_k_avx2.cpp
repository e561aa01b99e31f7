#include "kernels/cpu/avx2/unpack.h"
#include "quant/q2_k/q2_k.h"

namespace mxgpt::kernels::avx2 {

struct Q2_KAvx2 : quant::Q2_K {
  static constexpr int kBias = 0;
  static RowPair load(const Block& a, const Block& b, int g) {
    const auto half = [&](int i) {
      const int at = g / 4 * 32 + i * 16;
      const __m256i packed = load_2x128(a.q + at, b.q + at);
      return _mm256_and_si256(_mm256_srli_epi16(packed, g % 4 * 2), _mm256_set1_epi8(3));
    };
    return {half(0), half(1)};
  }
  static GroupScales scales(const Block& block) {
    const __m128i sub_scales = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block.sub_scales));
    const __m128i nibble = _mm_set1_epi8(0xf);
    const auto [even, odd] =
        scale_i8_deinterleaved(half_to_f32(block.scale), _mm_and_si128(sub_scales, nibble));
    const auto [even_minimum, odd_minimum] = scale_i8_deinterleaved(
        -half_to_f32(block.min), _mm_and_si128(_mm_srli_epi16(sub_scales, 4), nibble));
    return {.scale = {even, odd}, .offset = {even_minimum, odd_minimum}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(q2_k, Q2_KAvx2)
