#include "formats/q8_0/q8_0.h"

#include <algorithm>
#include <cmath>

namespace mxgpt {

void q8_0_quantize(const float* in, int64_t elements, std::byte* blocks) {
  auto* block = reinterpret_cast<Q8_0::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Q8_0::kElements, ++block, in += Q8_0::kElements) {
    float largest = 0;
    for (int i = 0; i < Q8_0::kElements; ++i) largest = std::max(largest, std::abs(in[i]));
    const float scale = largest / 127;
    const float inverse = scale > 0 ? 1 / scale : 0;
    block->scale = f32_to_f16(scale);
    for (int i = 0; i < Q8_0::kElements; ++i) {
      block->q[i] = static_cast<int8_t>(std::clamp(std::round(in[i] * inverse), -127.0f, 127.0f));
    }
  }
}

}  // namespace mxgpt

MXGPT_DEFINE_FORMAT(q8_0, Q8_0, q8_0_quantize)
