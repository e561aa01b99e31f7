#include "quant/q4_k/q4_k.h"

#include "quant/scale_search.h"

namespace mxgpt::quant {

static void q4_k_quantize(const float* in, int64_t elements, const float* importance,
                          std::byte* blocks) {
  auto* block = reinterpret_cast<Q4_K::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q4_K::kElements, ++block) {
    *block = {};
    if (!all_in_f16_range(in + at, Q4_K::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    const fit::ErrorWeights<Q4_K::kElements> weights(importance, at);
    const auto best = fit::AffineSuperBlock<15, 63, 8, 32>::search(in + at, weights.values);
    uint8_t q[256];
    best.encode(in + at, q);
    block->scale = best.scale_unit;
    block->min = best.min_unit;
    for (int p = 0; p < 8; ++p) block->sub_scales.set(p, best.scale[p], best.min[p]);
    for (int i = 0; i < 256; ++i) {
      block->nibbles[i / 64 * 32 + i % 32] |= static_cast<uint8_t>(q[i] << (i / 32 % 2 * 4));
    }
  }
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(q4_k, Q4_K, q4_k_quantize)
