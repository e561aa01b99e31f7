#include "formats/q4_k/q4_k.h"

#include "formats/fit.h"

namespace mxgpt {

static void q4_k_quantize(const float* in, int64_t elements, const float* importance,
                          std::byte* blocks) {
  auto* block = reinterpret_cast<Q4_K::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q4_K::kElements, ++block) {
    *block = {};
    if (!all_in_f16_range(in + at, Q4_K::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    const fit::Weights<Q4_K::kElements> weights(importance, at);
    const auto best = fit::Affines<15, 63, 8, 32>::fit(in + at, weights.values);
    uint8_t q[256];
    best.encode(in + at, q);
    block->scale = best.scale_unit;
    block->minimum = best.minimum_unit;
    for (int p = 0; p < 8; ++p) block->parts.set(p, best.scale[p], best.minimum[p]);
    for (int i = 0; i < 256; ++i) {
      block->nibbles[i / 64 * 32 + i % 32] |= static_cast<uint8_t>(q[i] << (i / 32 % 2 * 4));
    }
  }
}

}  // namespace mxgpt

MXGPT_DEFINE_FORMAT(q4_k, Q4_K, q4_k_quantize)
