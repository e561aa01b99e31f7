#include "quant/q5_1/q5_1.h"

#include "quant/scale_search.h"

namespace mxgpt::quant {

/// Without importance weights, matches ggml's reference: scale and min cover the range. Elements
/// are rounded, halves up, with the scale and min before their rounding to f16.
static void q5_1_quantize(const float* in, int64_t elements, const float* importance,
                          std::byte* blocks) {
  auto* block = reinterpret_cast<Q5_1::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q5_1::kElements, ++block) {
    const float* x = in + at;
    const auto [lowest, highest] = std::minmax_element(x, x + Q5_1::kElements);
    const float scale = (*highest - *lowest) / 31;
    *block = {};
    if (!all_in_f16_range(x, Q5_1::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    uint8_t codes[Q5_1::kElements];
    if (importance) {
      const fit::ErrorWeights<Q5_1::kElements> weights(importance, at);
      const auto best = fit::search_affine<31, Q5_1::kElements>(x, weights.values, fit::kSignedMin);
      block->scale = f32_to_f16(best.scale);
      block->min = f32_to_f16(-best.min);
      fit::encode_sub_block<31, Q5_1::kElements>(x, f16_to_f32(block->scale),
                                                 -f16_to_f32(block->min), codes);
    } else {
      const float inverse = inverse_or_zero(scale);
      block->scale = f32_to_f16(scale);
      block->min = f32_to_f16(*lowest);
      for (int i = 0; i < Q5_1::kElements; ++i) {
        codes[i] =
            static_cast<uint8_t>(std::min(31, static_cast<int>((x[i] - *lowest) * inverse + 0.5f)));
      }
    }
    for (int i = 0; i < Q5_1::kElements; ++i) {
      block->nibbles[i % 16] |= static_cast<uint8_t>((codes[i] & 0xf) << (i / 16 * 4));
      block->high[i / 8] |= static_cast<uint8_t>(codes[i] >> 4 << (i % 8));
    }
  }
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(q5_1, Q5_1, q5_1_quantize)
