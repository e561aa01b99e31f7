#include "formats/q4_0/q4_0.h"

#include <algorithm>

#include "formats/quantize.h"

namespace mxgpt {

/// The extreme element becomes q = -8. Elements are rounded by the scale before it is rounded to f16, halves
/// upwards: ggml's reference.
static void q4_0_quantize(const float* in, int64_t elements, const float*, std::byte* blocks) {
  auto* block = reinterpret_cast<Q4_0::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q4_0::kElements, ++block, in += Q4_0::kElements) {
    *block = {};
    if (!all_finite(in, Q4_0::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    const float scale = signed_extreme(in, Q4_0::kElements) / -8;
    const float inverse = inverse_or_zero(scale);
    block->scale = f32_to_f16(scale);
    for (int i = 0; i < Q4_0::kElements; ++i) {
      const int code = std::min(15, static_cast<int>(in[i] * inverse + 8.5f));
      block->nibbles[i % 16] |= static_cast<uint8_t>(code << (i / 16 * 4));
    }
  }
}

}  // namespace mxgpt

MXGPT_DEFINE_FORMAT(q4_0, Q4_0, q4_0_quantize)
