#include "quant/q6_k/q6_k.h"

#include "quant/scale_search.h"

namespace mxgpt::quant {

static void q6_k_quantize(const float* in, int64_t elements, const float* importance,
                          std::byte* blocks) {
  auto* block = reinterpret_cast<Q6_K::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q6_K::kElements, ++block) {
    *block = {};
    if (!all_in_f16_range(in + at, Q6_K::kElements)) {
      block->scale = kF16NaN;
      continue;
    }
    const fit::ErrorWeights<Q6_K::kElements> weights(importance, at);
    const auto best = fit::SymmetricSuperBlock<fit::UniformCodebook<-32, 31>, 16, 16>::search(
        in + at, weights.values, -128, 127);
    uint8_t codes[256];
    best.encode(in + at, codes);
    block->scale = best.unit;
    for (int p = 0; p < 16; ++p) block->sub_scales[p] = static_cast<int8_t>(best.scale[p]);
    for (int i = 0; i < 256; ++i) {
      const int low = codes[i] & 0xf, high = codes[i] >> 4;
      block->nibbles[i / 128 * 64 + i % 64] |= static_cast<uint8_t>(low << (i / 64 % 2 * 4));
      block->high[i / 128 * 32 + i % 32] |= static_cast<uint8_t>(high << (i / 32 % 4 * 2));
    }
  }
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(q6_k, Q6_K, q6_k_quantize)
