// What the quantizers of the formats share.
#pragma once

#include <cmath>
#include <cstdint>

namespace mxgpt {

/// Of f16; what a block that cannot be represented gets for its scale.
inline constexpr uint16_t kF16NaN = 0x7e00;

inline bool all_finite(const float* x, int n) {
  // 0 · x is NaN exactly for what is not finite.
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += 0 * x[i];
  return sum == 0;
}

/// 1 / scale, or 0 where that is not a number to multiply with: such a block is all zeros in f16 anyway.
inline float inverse_or_zero(float scale) {
  const float inverse = 1 / scale;
  return std::isfinite(inverse) ? inverse : 0;
}

/// The element of the largest magnitude, with its sign; the first of several.
inline float signed_extreme(const float* x, int n) {
  float extreme = x[0];
  for (int i = 0; i < n; ++i) {
    if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
  }
  return extreme;
}

}  // namespace mxgpt
