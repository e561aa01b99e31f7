#include "formats/avx2.h"
#include "formats/mxfp4/mxfp4.h"

namespace mxgpt {

struct Mxfp4Avx2 : Mxfp4 {
  static Avx2Group load(const Block& block, int) {
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block.nibbles));
    const __m256i nibbles = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(packed, 4), packed),
                                             _mm256_set1_epi8(0xf));
    const __m256i table = _mm256_broadcastsi128_si256(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(kDoubled)));
    return {.q = _mm256_shuffle_epi8(table, nibbles),
            .scale = _mm256_set1_ps(half_scale(block.scale))};
  }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(mxfp4, Mxfp4Avx2)
