#include "kernels/cpu/avx2/unpack.h"
#include "quant/bf16/bf16.h"

namespace mxgpt::kernels::avx2 {

struct Bf16Avx2 : quant::Bf16 {
  static __m256 load(const Block* elements) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(elements));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(bf16, Bf16Avx2)
