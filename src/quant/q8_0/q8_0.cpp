#include "quant/q8_0/q8_0.h"

#include <algorithm>

#include "quant/quantize.h"

namespace mxgpt::quant {

/// As ggml's reference: the scale is max|x| / 127 rounded to f16. Elements are rounded, halves away
/// from zero, with the unrounded scale.
static void q8_0_quantize(const float* in, int64_t elements, const float*, std::byte* blocks) {
  auto* block = reinterpret_cast<Q8_0::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q8_0::kElements, ++block, in += Q8_0::kElements) {
    *block = {};
    if (!all_in_f16_range(in, Q8_0::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    const float scale = std::abs(signed_abs_max(in, Q8_0::kElements)) / 127;
    const float inverse = inverse_or_zero(scale);
    block->scale = f32_to_f16(scale);
    for (int i = 0; i < Q8_0::kElements; ++i) {
      block->q[i] = static_cast<int8_t>(std::round(in[i] * inverse));
    }
  }
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(q8_0, Q8_0, q8_0_quantize)
