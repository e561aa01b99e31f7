#include "formats/avx2.h"
#include "formats/iq4_xs/iq4_xs.h"

namespace mxgpt {

struct IQ4_XSAvx2 : IQ4_XS {
  static constexpr int kBias = 127;
  static Avx2Pair load(const Block& a, const Block& b, int g) {
    const auto [low, high] = avx2::nibbles(a.nibbles + g * 16, b.nibbles + g * 16);
    return {avx2::look_up<kBias>(IQ4_NL::kValues, low),
            avx2::look_up<kBias>(IQ4_NL::kValues, high)};
  }
  static Avx2Scales scales(const Block& block) {
    const auto part = [&](int g) { return part_scale(block, g); };
    const __m256i parts =
        _mm256_setr_epi32(part(0), part(1), part(2), part(3), part(4), part(5), part(6), part(7));
    return {.scale = {
                _mm256_mul_ps(_mm256_set1_ps(avx2::f16(block.scale)), _mm256_cvtepi32_ps(parts))}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(iq4_xs, IQ4_XSAvx2)
