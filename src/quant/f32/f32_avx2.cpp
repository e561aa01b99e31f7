#include "kernels/cpu/avx2/unpack.h"
#include "quant/f32/f32.h"

namespace mxgpt::quant {

struct F32Avx2 : F32 {
  static __m256 load(const Block* eight) { return _mm256_loadu_ps(eight); }
};

}  // namespace mxgpt::quant

MXGPT_DEFINE_AVX2(f32, F32Avx2)
