#include "kernels/cpu/avx512/unpack.h"
#include "quant/mxfp4/mxfp4.h"

namespace mxgpt::kernels::avx512 {

struct Mxfp4Avx512 : quant::Mxfp4 {
  static constexpr int kBias = 12;
  static constexpr int kScaleWords[] = {0};
  static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int) {
    return shuffle_lookup<kBias>(
        kE2m1Times2, unpack_nibbles(load_4x128(a.nibbles, b.nibbles, c.nibbles, d.nibbles)));
  }
  static GroupScales scales(const __m512i* words, int) {
    const __m512i byte = bit_field(words[0], 0, 0xff);
    // 2^(byte - 128), which is subnormal at the bottom.
    const __m512 power =
        _mm512_scalef_ps(_mm512_set1_ps(0x1p-100f),
                         _mm512_cvtepi32_ps(_mm512_sub_epi32(byte, _mm512_set1_epi32(28))));
    const __mmask16 nan = _mm512_cmpeq_epi32_mask(byte, _mm512_set1_epi32(255));
    return {.scale = {_mm512_mask_mov_ps(power, nan, _mm512_set1_ps(kHalfScales.of[255]))}};
  }
};

}  // namespace mxgpt::kernels::avx512

MXGPT_DEFINE_AVX512(mxfp4, Mxfp4Avx512)
