#include "quant/q5_k/q5_k.h"

#include "quant/scale_search.h"

namespace mxgpt::quant {

static void q5_k_quantize(const float* in, int64_t elements, const float* importance,
                          std::byte* blocks) {
  auto* block = reinterpret_cast<Q5_K::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q5_K::kElements, ++block) {
    *block = {};
    if (!all_in_f16_range(in + at, Q5_K::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    const fit::ErrorWeights<Q5_K::kElements> weights(importance, at);
    const auto best = fit::AffineSuperBlock<31, 63, 8, 32>::search(in + at, weights.values);
    uint8_t q[256];
    best.encode(in + at, q);
    block->scale = best.scale_unit;
    block->min = best.min_unit;
    for (int p = 0; p < 8; ++p) block->sub_scales.set(p, best.scale[p], best.min[p]);
    for (int i = 0; i < 256; ++i) {
      block->nibbles[i / 64 * 32 + i % 32] |=
          static_cast<uint8_t>((q[i] & 0xf) << (i / 32 % 2 * 4));
      block->high[i % 32] |= static_cast<uint8_t>(q[i] >> 4 << (i / 32));
    }
  }
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(q5_k, Q5_K, q5_k_quantize)
