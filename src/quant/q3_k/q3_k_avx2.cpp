#include "kernels/cpu/avx2/unpack.h"
#include "quant/q3_k/q3_k.h"

namespace mxgpt::kernels::avx2 {

struct Q3_KAvx2 : quant::Q3_K {
  static constexpr int kBias = 4;
  static RowPair load(const Block& a, const Block& b, int g) {
    const auto half = [&](int i) {
      const int at = g / 4 * 32 + i * 16;
      const __m256i packed = load_2x128(a.q + at, b.q + at);
      const __m256i low =
          _mm256_and_si256(_mm256_srli_epi16(packed, g % 4 * 2), _mm256_set1_epi8(3));
      const __m256i high = _mm256_srli_epi16(load_2x128(a.high + i * 16, b.high + i * 16), g);
      const __m256i third = _mm256_and_si256(high, _mm256_set1_epi8(1));
      return _mm256_or_si256(low, _mm256_slli_epi16(third, 2));
    };
    return {half(0), half(1)};
  }
  static GroupScales scales(const Block& block) {
    uint64_t low;
    uint32_t high;
    std::memcpy(&low, block.sub_scales, sizeof low);
    std::memcpy(&high, block.sub_scales + 8, sizeof high);
    // Eight scales at a time: the upper two bits of the first four are in four bytes, those of the
    // other four in the next two bits of the same bytes.
    const auto eight_scales = [&](int i) {
      const uint64_t upper = high >> (4 * i) & 0x03030303;
      const uint64_t next = high >> (4 * i + 2) & 0x03030303;
      return static_cast<int64_t>((low >> (4 * i) & 0x0f0f0f0f0f0f0f0f) | (upper | next << 32)
                                                                              << 4);
    };
    const __m128i sub_scales =
        _mm_sub_epi8(_mm_set_epi64x(eight_scales(1), eight_scales(0)), _mm_set1_epi8(32));
    const auto [even, odd] = scale_i8_deinterleaved(half_to_f32(block.scale), sub_scales);
    return {.scale = {even, odd}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(q3_k, Q3_KAvx2)
