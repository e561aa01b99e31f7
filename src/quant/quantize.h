// What the quantizers of the formats share.
#pragma once

#include <cmath>
#include <cstdint>

namespace mxgpt::quant {

/// Of f16; what a block that cannot be represented gets for its scale.
inline constexpr uint16_t kF16NaN = 0x7e00;

/// Whether f16 scales can stand for the values: not for NaN and infinity, and f16 ends at 65504.
inline bool all_in_f16_range(const float* x, int n) {
  bool all = true;
  for (int i = 0; i < n; ++i) all &= std::abs(x[i]) <= 65504.0f;
  return all;
}

/// 1 / scale, or 0 where that is not a number to multiply with: such a block is all zeros in f16
/// anyway.
inline float inverse_or_zero(float scale) {
  const float inverse = 1 / scale;
  return std::isfinite(inverse) ? inverse : 0;
}

/// The element of the largest magnitude, with its sign; the first of several.
inline float signed_abs_max(const float* x, int n) {
  float extreme = x[0];
  for (int i = 0; i < n; ++i) {
    if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
  }
  return extreme;
}

}  // namespace mxgpt::quant
