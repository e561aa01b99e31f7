#include "kernels/cpu/avx2/unpack.h"
#include "quant/iq4_xs/iq4_xs.h"

namespace mxgpt::kernels::avx2 {

struct IQ4_XSAvx2 : quant::IQ4_XS {
  static constexpr int kBias = 127;
  static RowPair load(const Block& a, const Block& b, int g) {
    const auto [low, high] = unpack_nibbles(a.nibbles + g * 16, b.nibbles + g * 16);
    return {shuffle_lookup<kBias>(quant::IQ4_NL::kValues, low),
            shuffle_lookup<kBias>(quant::IQ4_NL::kValues, high)};
  }
  static GroupScales scales(const Block& block) {
    const auto sub_scale = [&](int g) { return sub_block_scale(block, g); };
    const __m256i sub_scales =
        _mm256_setr_epi32(sub_scale(0), sub_scale(1), sub_scale(2), sub_scale(3), sub_scale(4),
                          sub_scale(5), sub_scale(6), sub_scale(7));
    return {.scale = {_mm256_mul_ps(_mm256_set1_ps(half_to_f32(block.scale)),
                                    _mm256_cvtepi32_ps(sub_scales))}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(iq4_xs, IQ4_XSAvx2)
