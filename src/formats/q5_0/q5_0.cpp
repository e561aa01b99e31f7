#include "formats/q5_0/q5_0.h"

#include "formats/fit.h"

namespace mxgpt {

/// Without an importance as ggml's reference: the extreme element becomes q = -16; elements are
/// rounded by the scale before it is rounded to f16, halves upwards.
static void q5_0_quantize(const float* in, int64_t elements, const float* importance,
                          std::byte* blocks) {
  auto* block = reinterpret_cast<Q5_0::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q5_0::kElements, ++block) {
    const float* x = in + at;
    *block = {};
    if (!all_in_f16_range(x, Q5_0::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    uint8_t codes[Q5_0::kElements];
    if (importance) {
      using Levels = fit::Uniform<-16, 15>;
      const fit::Weights<Q5_0::kElements> weights(importance, at);
      block->scale = f32_to_f16(fit::fit_scale<Levels, Q5_0::kElements>(x, weights.values));
      fit::encode_part<Levels, Q5_0::kElements>(x, f16_to_f32(block->scale), codes);
    } else {
      const float scale = signed_extreme(x, Q5_0::kElements) / -16;
      const float inverse = inverse_or_zero(scale);
      block->scale = f32_to_f16(scale);
      for (int i = 0; i < Q5_0::kElements; ++i) {
        codes[i] = static_cast<uint8_t>(std::min(31, static_cast<int>(x[i] * inverse + 16.5f)));
      }
    }
    for (int i = 0; i < Q5_0::kElements; ++i) {
      block->nibbles[i % 16] |= static_cast<uint8_t>((codes[i] & 0xf) << (i / 16 * 4));
      block->high[i / 8] |= static_cast<uint8_t>(codes[i] >> 4 << (i % 8));
    }
  }
}

}  // namespace mxgpt

MXGPT_DEFINE_FORMAT(q5_0, Q5_0, q5_0_quantize)
