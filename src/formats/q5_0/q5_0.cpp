#include "formats/q5_0/q5_0.h"

#include <algorithm>

#include "formats/quantize.h"

namespace mxgpt {

/// The extreme element becomes q = -16. Elements are rounded by the scale before it is rounded to f16, halves
/// upwards: ggml's reference.
static void q5_0_quantize(const float* in, int64_t elements, const float*, std::byte* blocks) {
  auto* block = reinterpret_cast<Q5_0::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q5_0::kElements, ++block, in += Q5_0::kElements) {
    *block = {};
    if (!all_finite(in, Q5_0::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    const float scale = signed_extreme(in, Q5_0::kElements) / -16;
    const float inverse = inverse_or_zero(scale);
    block->scale = f32_to_f16(scale);
    for (int i = 0; i < Q5_0::kElements; ++i) {
      const int code = std::min(31, static_cast<int>(in[i] * inverse + 16.5f));
      block->nibbles[i % 16] |= static_cast<uint8_t>((code & 0xf) << (i / 16 * 4));
      block->high[i / 8] |= static_cast<uint8_t>(code >> 4 << (i % 8));
    }
  }
}

}  // namespace mxgpt

MXGPT_DEFINE_FORMAT(q5_0, Q5_0, q5_0_quantize)
