#include "formats/avx512.h"
#include "formats/mxfp4/mxfp4.h"

namespace mxgpt {

struct Mxfp4Avx512 : Mxfp4 {
  static constexpr int kBias = 12;
  static constexpr int kWords[] = {0};
  static Avx512Quad load(const Block& a, const Block& b, const Block& c, const Block& d, int) {
    return avx512::look_up<kBias>(
        kDoubled, avx512::nibbles(avx512::four(a.nibbles, b.nibbles, c.nibbles, d.nibbles)));
  }
  static Avx512Scales scales(const __m512i* words, int) {
    const __m512i byte = avx512::field(words[0], 0, 0xff);
    // 2^(byte - 128), which is subnormal at the bottom.
    const __m512 power =
        _mm512_scalef_ps(_mm512_set1_ps(0x1p-100f),
                         _mm512_cvtepi32_ps(_mm512_sub_epi32(byte, _mm512_set1_epi32(28))));
    const __mmask16 nan = _mm512_cmpeq_epi32_mask(byte, _mm512_set1_epi32(255));
    return {.scale = {_mm512_mask_mov_ps(power, nan, _mm512_set1_ps(kHalfScale[255]))}};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX512(mxfp4, Mxfp4Avx512)
