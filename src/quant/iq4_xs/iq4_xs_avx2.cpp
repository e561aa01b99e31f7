#include "kernels/cpu/avx2/unpack.h"
#include "quant/iq4_xs/iq4_xs.h"

namespace mxgpt::quant {

struct IQ4_XSAvx2 : IQ4_XS {
  static constexpr int kBias = 127;
  static kernels::Avx2RowPair load(const Block& a, const Block& b, int g) {
    const auto [low, high] = kernels::avx2::unpack_nibbles(a.nibbles + g * 16, b.nibbles + g * 16);
    return {kernels::avx2::shuffle_lookup<kBias>(IQ4_NL::kValues, low),
            kernels::avx2::shuffle_lookup<kBias>(IQ4_NL::kValues, high)};
  }
  static kernels::Avx2Scales scales(const Block& block) {
    const auto part = [&](int g) { return sub_block_scale(block, g); };
    const __m256i parts =
        _mm256_setr_epi32(part(0), part(1), part(2), part(3), part(4), part(5), part(6), part(7));
    return {.scale = {_mm256_mul_ps(_mm256_set1_ps(kernels::avx2::half_to_f32(block.scale)),
                                    _mm256_cvtepi32_ps(parts))}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(iq4_xs, IQ4_XSAvx2)
