#include "quant/q2_k/q2_k.h"

#include "quant/scale_search.h"

namespace mxgpt::quant {

static void q2_k_quantize(const float* in, int64_t elements, const float* importance,
                          std::byte* blocks) {
  auto* block = reinterpret_cast<Q2_K::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q2_K::kElements, ++block) {
    *block = {};
    if (!all_in_f16_range(in + at, Q2_K::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    const fit::ErrorWeights<Q2_K::kElements> weights(importance, at);
    const auto best = fit::AffineSuperBlock<3, 15, 16, 16>::search(in + at, weights.values);
    uint8_t q[256];
    best.encode(in + at, q);
    block->scale = best.scale_unit;
    block->min = best.min_unit;
    for (int p = 0; p < 16; ++p) {
      block->sub_scales[p] = static_cast<uint8_t>(best.scale[p] | best.min[p] << 4);
    }
    for (int i = 0; i < 256; ++i) {
      block->q[i / 128 * 32 + i % 32] |= static_cast<uint8_t>(q[i] << (i / 32 % 4 * 2));
    }
  }
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(q2_k, Q2_K, q2_k_quantize)
