#include "formats/q5_1/q5_1.h"

#include <algorithm>

#include "formats/quantize.h"

namespace mxgpt {

/// Scale and minimum from the range. Elements are rounded by both before these are rounded to f16, halves
/// upwards: ggml's reference.
static void q5_1_quantize(const float* in, int64_t elements, const float*, std::byte* blocks) {
  auto* block = reinterpret_cast<Q5_1::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q5_1::kElements, ++block, in += Q5_1::kElements) {
    const auto [minimum, maximum] = std::minmax_element(in, in + Q5_1::kElements);
    const float scale = (*maximum - *minimum) / 31;
    *block = {};
    if (!all_finite(in, Q5_1::kElements) || !std::isfinite(scale)) {
      block->scale = kF16NaN;
      continue;
    }
    const float inverse = inverse_or_zero(scale);
    block->scale = f32_to_f16(scale);
    block->minimum = f32_to_f16(*minimum);
    for (int i = 0; i < Q5_1::kElements; ++i) {
      const int code = std::min(31, static_cast<int>((in[i] - *minimum) * inverse + 0.5f));
      block->nibbles[i % 16] |= static_cast<uint8_t>((code & 0xf) << (i / 16 * 4));
      block->high[i / 8] |= static_cast<uint8_t>(code >> 4 << (i % 8));
    }
  }
}

}  // namespace mxgpt

MXGPT_DEFINE_FORMAT(q5_1, Q5_1, q5_1_quantize)
