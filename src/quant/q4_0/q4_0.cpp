#include "quant/q4_0/q4_0.h"

#include "quant/scale_search.h"

namespace mxgpt::quant {

/// Without importance weights, matches ggml's reference: the element with the largest magnitude
/// becomes q = -8. Elements are rounded, halves up, with the scale before its rounding to f16.
static void q4_0_quantize(const float* in, int64_t elements, const float* importance,
                          std::byte* blocks) {
  auto* block = reinterpret_cast<Q4_0::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q4_0::kElements, ++block) {
    const float* x = in + at;
    *block = {};
    if (!all_in_f16_range(x, Q4_0::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    uint8_t codes[Q4_0::kElements];
    if (importance) {
      using Levels = fit::UniformCodebook<-8, 7>;
      const fit::ErrorWeights<Q4_0::kElements> weights(importance, at);
      block->scale = f32_to_f16(fit::search_scale<Levels, Q4_0::kElements>(x, weights.values));
      fit::encode_sub_block<Levels, Q4_0::kElements>(x, f16_to_f32(block->scale), codes);
    } else {
      const float scale = signed_abs_max(x, Q4_0::kElements) / -8;
      const float inverse = inverse_or_zero(scale);
      block->scale = f32_to_f16(scale);
      for (int i = 0; i < Q4_0::kElements; ++i) {
        codes[i] = static_cast<uint8_t>(std::min(15, static_cast<int>(x[i] * inverse + 8.5f)));
      }
    }
    for (int i = 0; i < Q4_0::kElements; ++i) {
      block->nibbles[i % 16] |= static_cast<uint8_t>(codes[i] << (i / 16 * 4));
    }
  }
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(q4_0, Q4_0, q4_0_quantize)
