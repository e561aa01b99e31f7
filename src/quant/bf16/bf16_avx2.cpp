#include "kernels/cpu/avx2/unpack.h"
#include "quant/bf16/bf16.h"

namespace mxgpt::quant {

struct Bf16Avx2 : Bf16 {
  static __m256 load(const Block* eight) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(eight));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(bf16, Bf16Avx2)
