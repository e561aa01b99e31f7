#include "quant/iq4_xs/iq4_xs.h"

#include "quant/scale_search.h"

namespace mxgpt::quant {

using Codebook = fit::TableCodebook<IQ4_NL::kValues>;

static void iq4_xs_quantize(const float* in, int64_t elements, const float* importance,
                            std::byte* blocks) {
  auto* block = reinterpret_cast<IQ4_XS::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += IQ4_XS::kElements, ++block) {
    *block = {};
    if (!all_in_f16_range(in + at, IQ4_XS::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    const fit::ErrorWeights<IQ4_XS::kElements> weights(importance, at);
    const auto best =
        fit::SymmetricSuperBlock<Codebook, 8, 32>::search(in + at, weights.values, -32, 31);
    uint8_t codes[256];
    best.encode(in + at, codes);
    block->scale = best.unit;
    for (int p = 0; p < 8; ++p) {
      const int code = best.scale[p] + 32;
      block->sub_scales_low[p / 2] |= static_cast<uint8_t>((code & 0xf) << (p % 2 * 4));
      block->sub_scales_high |= static_cast<uint16_t>(code >> 4 << (p * 2));
    }
    for (int i = 0; i < 256; ++i) {
      block->nibbles[i / 32 * 16 + i % 16] |= static_cast<uint8_t>(codes[i] << (i / 16 % 2 * 4));
    }
  }
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(iq4_xs, IQ4_XS, iq4_xs_quantize)
