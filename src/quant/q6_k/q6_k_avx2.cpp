#include "kernels/cpu/avx2/unpack.h"
#include "quant/q6_k/q6_k.h"

namespace mxgpt::quant {

struct Q6_KAvx2 : Q6_K {
  static constexpr int kBias = 32;
  static kernels::Avx2RowPair load(const Block& a, const Block& b, int g) {
    const int half_block = g / 4, quarter = g % 4;
    const auto piece = [&](int i) {
      const int at = half_block * 64 + quarter % 2 * 32 + i * 16;
      const int high_at = half_block * 32 + i * 16;
      const __m256i packed = kernels::avx2::load_2x128(a.nibbles + at, b.nibbles + at);
      const __m256i low = kernels::avx2::low_nibbles(_mm256_srli_epi16(packed, quarter / 2 * 4));
      const __m256i packed_high = kernels::avx2::load_2x128(a.high + high_at, b.high + high_at);
      const __m256i high =
          _mm256_and_si256(_mm256_srli_epi16(packed_high, quarter * 2), _mm256_set1_epi8(3));
      return _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
    };
    return {piece(0), piece(1)};
  }
  static kernels::Avx2Scales scales(const Block& block) {
    const __m128i parts = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block.sub_scales));
    const auto [even, odd] =
        kernels::avx2::scale_i8_deinterleaved(kernels::avx2::half_to_f32(block.scale), parts);
    return {.scale = {even, odd}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(q6_k, Q6_KAvx2)
