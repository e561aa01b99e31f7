#include "kernels/cpu/avx2/unpack.h"
#include "quant/q3_k/q3_k.h"

namespace mxgpt::quant {

struct Q3_KAvx2 : Q3_K {
  static constexpr int kBias = 4;
  static kernels::Avx2RowPair load(const Block& a, const Block& b, int g) {
    const auto piece = [&](int i) {
      const int at = g / 4 * 32 + i * 16;
      const __m256i packed = kernels::avx2::load_2x128(a.q + at, b.q + at);
      const __m256i low =
          _mm256_and_si256(_mm256_srli_epi16(packed, g % 4 * 2), _mm256_set1_epi8(3));
      const __m256i high =
          _mm256_srli_epi16(kernels::avx2::load_2x128(a.high + i * 16, b.high + i * 16), g);
      const __m256i third = _mm256_and_si256(high, _mm256_set1_epi8(1));
      return _mm256_or_si256(low, _mm256_slli_epi16(third, 2));
    };
    return {piece(0), piece(1)};
  }
  static kernels::Avx2Scales scales(const Block& block) {
    uint64_t low;
    uint32_t high;
    std::memcpy(&low, block.sub_scales, sizeof low);
    std::memcpy(&high, block.sub_scales + 8, sizeof high);
    // Eight parts at a time: their upper two bits are those of four bytes, then the next two bits
    // of the same four.
    const auto eight = [&](int i) {
      const uint64_t upper = high >> (4 * i) & 0x03030303;
      const uint64_t next = high >> (4 * i + 2) & 0x03030303;
      return static_cast<int64_t>((low >> (4 * i) & 0x0f0f0f0f0f0f0f0f) | (upper | next << 32)
                                                                              << 4);
    };
    const __m128i parts = _mm_sub_epi8(_mm_set_epi64x(eight(1), eight(0)), _mm_set1_epi8(32));
    const auto [even, odd] =
        kernels::avx2::scale_i8_deinterleaved(kernels::avx2::half_to_f32(block.scale), parts);
    return {.scale = {even, odd}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(q3_k, Q3_KAvx2)
