#include "quant/f16/f16.h"

namespace mxgpt::quant {

static void f16_quantize(const float* in, int64_t elements, const float*, std::byte* blocks) {
  auto* out = reinterpret_cast<F16::Block*>(blocks);
  for (int64_t i = 0; i < elements; ++i) out[i] = f32_to_f16(in[i]);
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(f16, F16, f16_quantize)
