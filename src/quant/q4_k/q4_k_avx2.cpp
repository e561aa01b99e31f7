#include "kernels/cpu/avx2/unpack.h"
#include "quant/q4_k/q4_k.h"

namespace mxgpt::kernels::avx2 {

struct Q4_KAvx2 : quant::Q4_K {
  static constexpr int kBias = 0;
  static RowPair load(const Block& a, const Block& b, int g) {
    const auto half = [&](int i) {
      const int at = g / 2 * 32 + i * 16;
      const __m256i packed = load_2x128(a.nibbles + at, b.nibbles + at);
      return low_nibbles(_mm256_srli_epi16(packed, g % 2 * 4));
    };
    return {half(0), half(1)};
  }
  static GroupScales scales(const Block& block) {
    return {.scale = {scale_u8(half_to_f32(block.scale), block.sub_scales.scales())},
            .offset = {scale_u8(-half_to_f32(block.min), block.sub_scales.mins())}};
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(q4_k, Q4_KAvx2)
