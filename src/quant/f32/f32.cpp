#include "quant/f32/f32.h"

namespace mxgpt::quant {

static void f32_quantize(const float* in, int64_t elements, const float*, std::byte* blocks) {
  auto* out = reinterpret_cast<F32::Block*>(blocks);
  for (int64_t i = 0; i < elements; ++i) out[i] = in[i];
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(f32, F32, f32_quantize)
