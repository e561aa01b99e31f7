#include "kernels/cpu/avx2/unpack.h"
#include "quant/q4_k/q4_k.h"

namespace mxgpt::quant {

struct Q4_KAvx2 : Q4_K {
  static constexpr int kBias = 0;
  static kernels::Avx2RowPair load(const Block& a, const Block& b, int g) {
    const auto piece = [&](int i) {
      const int at = g / 2 * 32 + i * 16;
      const __m256i packed = kernels::avx2::load_2x128(a.nibbles + at, b.nibbles + at);
      return kernels::avx2::low_nibbles(_mm256_srli_epi16(packed, g % 2 * 4));
    };
    return {piece(0), piece(1)};
  }
  static kernels::Avx2Scales scales(const Block& block) {
    return {.scale = {kernels::avx2::scale_u8(kernels::avx2::half_to_f32(block.scale),
                                              block.sub_scales.scales())},
            .offset = {kernels::avx2::scale_u8(-kernels::avx2::half_to_f32(block.min),
                                               block.sub_scales.mins())}};
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(q4_k, Q4_KAvx2)
