#include "formats/avx2.h"
#include "formats/f32/f32.h"

namespace mxgpt {

struct F32Avx2 : F32 {
  static __m256 load(const Block* eight) { return _mm256_loadu_ps(eight); }
};

}  // namespace mxgpt

MXGPT_DEFINE_AVX2(f32, F32Avx2)
