#include "quant/iq4_nl/iq4_nl.h"

#include "quant/scale_search.h"

namespace mxgpt::quant {

using Codebook = fit::TableCodebook<IQ4_NL::kValues>;

static void iq4_nl_quantize(const float* in, int64_t elements, const float* importance,
                            std::byte* blocks) {
  auto* block = reinterpret_cast<IQ4_NL::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += IQ4_NL::kElements, ++block) {
    *block = {};
    if (!all_in_f16_range(in + at, IQ4_NL::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    const fit::ErrorWeights<IQ4_NL::kElements> weights(importance, at);
    block->scale = f32_to_f16(fit::search_scale<Codebook, 32>(in + at, weights.values));
    uint8_t codes[IQ4_NL::kElements];
    fit::encode_sub_block<Codebook, 32>(in + at, f16_to_f32(block->scale), codes);
    for (int i = 0; i < IQ4_NL::kElements; ++i) {
      block->nibbles[i % 16] |= static_cast<uint8_t>(codes[i] << (i / 16 * 4));
    }
  }
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(iq4_nl, IQ4_NL, iq4_nl_quantize)
