// Conversions between f32 and narrow floating-point types in plain C++: the reference for SIMD
// code, and the implementation on processors without such instructions. Rounding is to nearest,
// ties to even.
#pragma once

#include <bit>
#include <cstdint>

#include "base/attributes.h"

namespace mxgpt::quant {

MXGPT_ALWAYS_INLINE constexpr float bf16_to_f32(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

MXGPT_ALWAYS_INLINE constexpr uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000)
    return static_cast<uint16_t>(bits >> 16 | 0x40);  // quiet NaN
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

MXGPT_ALWAYS_INLINE constexpr float f16_to_f32(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00)
    return std::bit_cast<float>(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  // Multiplying by 2^112 corrects the exponent bias. It is exact and handles subnormals.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

MXGPT_ALWAYS_INLINE constexpr uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | (magnitude >> 13 & 0x1ff);
  if (magnitude >= 0x477ff000) return sign | 0x7c00;  // 65520 and above round to infinity
  if (magnitude < 0x38800000) {
    // Below 2^-14: adding 0.5 aligns the last bit of the float with the unit of subnormal halves,
    // so that the addition rounds.
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(aligned) - 0x3f000000));
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | (rounded - 0x38000000) >> 13);
}

/// An exponent-only scale, 2^(s - 127); 0xFF is NaN (OCP Microscaling v1.0, section 5.4.1).
MXGPT_ALWAYS_INLINE constexpr float e8m0_to_f32(uint8_t s) {
  if (s == 0xff) return std::bit_cast<float>(0x7fc00000u);
  return std::bit_cast<float>(s == 0 ? 0x00400000u : uint32_t{s} << 23);  // 2^-127 is subnormal
}

}  // namespace mxgpt::quant
