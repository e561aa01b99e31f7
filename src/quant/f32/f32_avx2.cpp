#include "kernels/cpu/avx2/unpack.h"
#include "quant/f32/f32.h"

namespace mxgpt::kernels::avx2 {

struct F32Avx2 : quant::F32 {
  static __m256 load(const Block* elements) { return _mm256_loadu_ps(elements); }
};

}  // namespace mxgpt::kernels::avx2

MXGPT_DEFINE_AVX2(f32, F32Avx2)
