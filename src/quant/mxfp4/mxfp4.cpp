#include "quant/mxfp4/mxfp4.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "quant/quantize.h"

namespace mxgpt::quant {

void mxfp4_from_checkpoint(const uint8_t nibbles[16], uint8_t scale, Mxfp4::Block& out) {
  out.scale = scale;
  for (int j = 0; j < 16; ++j) {
    // Element j is in byte j / 2, element j + 16 in byte j / 2 + 8, both in nibble j % 2.
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

/// Index of the value nearest to m among 0, 0.5, 1, 1.5, 2, 3, 4 and 6, which is also its code.
/// Ties go to the even code, whose mantissa bit is 0.
int e2m1_code(float m) {
  return (m > 0.25f) + (m >= 0.75f) + (m > 1.25f) + (m >= 1.75f) + (m > 2.5f) + (m >= 3.5f) +
         (m > 5.0f);
}

Mxfp4::Block encode(const float* x, int exponent) {
  Mxfp4::Block block{};
  block.scale = static_cast<uint8_t>(exponent + 127);
  const float inverse = std::ldexp(1.0f, -exponent);
  uint8_t codes[Mxfp4::kElements];
  for (int i = 0; i < Mxfp4::kElements; ++i) {
    const int sign = static_cast<int>(std::bit_cast<uint32_t>(x[i]) >> 28 & 8);
    codes[i] = static_cast<uint8_t>(sign | e2m1_code(std::abs(x[i] * inverse)));
  }
  for (int i = 0; i < 16; ++i)
    block.nibbles[i] = static_cast<uint8_t>(codes[i] | codes[i + 16] << 4);
  return block;
}

double squared_error(const float* x, const float* importance, const Mxfp4::Block& block) {
  double error = 0;
  const double half_scale = Mxfp4::kHalfScales.of[block.scale];
  for (int i = 0; i < Mxfp4::kElements; ++i) {
    const uint8_t code = block.nibbles[i % 16] >> (i / 16 * 4) & 0xf;
    const double difference = x[i] - half_scale * Mxfp4::kE2m1Times2[code];
    error += importance[i] * difference * difference;
  }
  return error;
}

/// The block with the smallest error among `exponent` and the two exponents next to it.
Mxfp4::Block search_exponent(const float* x, const float* importance, int exponent) {
  Mxfp4::Block best = encode(x, exponent);
  double smallest = squared_error(x, importance, best);
  for (int other : {exponent - 1, exponent + 1}) {
    if (other < -127) continue;
    const Mxfp4::Block block = encode(x, other);
    const double error = squared_error(x, importance, block);
    if (error < smallest) {
      smallest = error;
      best = block;
    }
  }
  return best;
}

}  // namespace

void mxfp4_quantize(const float* in, int64_t elements, const float* importance, std::byte* blocks) {
  auto* block = reinterpret_cast<Mxfp4::Block*>(blocks);
  for (int64_t at = 0; at < elements; at += Mxfp4::kElements, ++block) {
    const float* x = in + at;
    const float largest = std::abs(signed_abs_max(x, Mxfp4::kElements));
    const bool finite =
        std::all_of(x, x + Mxfp4::kElements, [](float v) { return std::isfinite(v); });
    if (!finite) {
      *block = {.scale = 0xff, .nibbles = {}};
    } else if (largest == 0) {
      *block = {};
    } else {
      const int exponent = std::clamp(std::ilogb(largest) - 2, -127, 127);
      *block = importance ? search_exponent(x, importance + at, exponent) : encode(x, exponent);
    }
  }
}

}  // namespace mxgpt::quant

MXGPT_DEFINE_FORMAT(mxfp4, Mxfp4, mxfp4_quantize)
