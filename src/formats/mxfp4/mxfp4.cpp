#include "formats/mxfp4/mxfp4.h"

#include <algorithm>
#include <cmath>

namespace mxgpt {

void mxfp4_from_checkpoint(const uint8_t nibbles[16], uint8_t scale, Mxfp4::Block& out) {
  out.scale = scale;
  for (int j = 0; j < 16; ++j) {
    // Element j sits in byte j / 2, element j + 16 in byte j / 2 + 8, both in the nibble j % 2.
    const int shift = j % 2 * 4;
    const int low = nibbles[j / 2] >> shift & 0xf;
    const int high = nibbles[j / 2 + 8] >> shift & 0xf;
    out.nibbles[j] = static_cast<uint8_t>(low | high << 4);
  }
}

void mxfp4_to_checkpoint(const Mxfp4::Block& block, uint8_t nibbles[16], uint8_t& scale) {
  scale = block.scale;
  for (int i = 0; i < 8; ++i) {
    const uint8_t even = block.nibbles[2 * i], odd = block.nibbles[2 * i + 1];
    nibbles[i] = static_cast<uint8_t>((even & 0xf) | (odd & 0xf) << 4);
    nibbles[i + 8] = static_cast<uint8_t>(even >> 4 | (odd & 0xf0));
  }
}

namespace {

/// |x| to the nearest of 0, 0.5, 1, 1.5, 2, 3, 4, 6: the code is also the rank, and a tie goes to the even
/// code, whose mantissa bit is 0.
uint8_t e2m1_code(float magnitude) {
  constexpr float kMidpoints[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  uint8_t code = 0;
  for (float midpoint : kMidpoints) {
    const bool above = code % 2 ? magnitude >= midpoint : magnitude > midpoint;
    if (!above) break;
    ++code;
  }
  return code;
}

}  // namespace

void mxfp4_quantize(const float* in, int64_t elements, const float*, std::byte* blocks) {
  auto* block = reinterpret_cast<Mxfp4::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Mxfp4::kElements, ++block, in += Mxfp4::kElements) {
    float largest = 0;
    bool finite = true;
    for (int i = 0; i < Mxfp4::kElements; ++i) {
      finite &= std::isfinite(in[i]);
      largest = std::max(largest, std::abs(in[i]));
    }
    *block = {};
    if (!finite) {
      block->scale = 0xff;
      continue;
    }
    if (largest == 0) continue;
    const int exponent = std::clamp(std::ilogb(largest) - 2, -127, 127);
    block->scale = static_cast<uint8_t>(exponent + 127);
    for (int i = 0; i < Mxfp4::kElements; ++i) {
      const uint8_t sign = std::signbit(in[i]) ? 8 : 0;
      const uint8_t code = sign | e2m1_code(std::abs(std::ldexp(in[i], -exponent)));
      block->nibbles[i % 16] |= static_cast<uint8_t>(code << (i / 16 * 4));
    }
  }
}

}  // namespace mxgpt

MXGPT_DEFINE_FORMAT(mxfp4, Mxfp4, mxfp4_quantize)
