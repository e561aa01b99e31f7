#include "quant/bf16/bf16.h"

namespace mxgpt::quant {

static void bf16_quantize(const float* in, int64_t elements, const float*, std::byte* blocks) {
  auto* out = reinterpret_cast<Bf16::Block*>(blocks);
  for (int64_t i = 0; i < elements; ++i) out[i] = f32_to_bf16(in[i]);
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(bf16, Bf16, bf16_quantize)
