#include "quant/q3_k/q3_k.h"

#include "quant/scale_search.h"

namespace mxgpt::quant {

static void q3_k_quantize(const float* in, int64_t elements, const float* importance,
                          std::byte* blocks) {
  auto* block = reinterpret_cast<Q3_K::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q3_K::kElements, ++block) {
    *block = {};
    if (!all_in_f16_range(in + at, Q3_K::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    const fit::ErrorWeights<Q3_K::kElements> weights(importance, at);
    const auto best = fit::SymmetricSuperBlock<fit::UniformCodebook<-4, 3>, 16, 16>::search(
        in + at, weights.values, -32, 31);
    uint8_t codes[256];
    best.encode(in + at, codes);
    block->scale = best.unit;
    for (int p = 0; p < 16; ++p) {
      const int code = best.scale[p] + 32;
      block->sub_scales[p % 8] |= static_cast<uint8_t>((code & 0xf) << (p / 8 * 4));
      block->sub_scales[8 + p % 4] |= static_cast<uint8_t>(code >> 4 << (p / 4 * 2));
    }
    for (int i = 0; i < 256; ++i) {
      block->q[i / 128 * 32 + i % 32] |= static_cast<uint8_t>((codes[i] & 3) << (i / 32 % 4 * 2));
      block->high[i % 32] |= static_cast<uint8_t>(codes[i] >> 2 << (i / 32));
    }
  }
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(q3_k, Q3_K, q3_k_quantize)
