// Helpers shared by the quantizers.
#pragma once

#include <cmath>
#include <cstdint>

namespace mxgpt::quant {

/// f16 NaN, the scale of a block that cannot be represented.
inline constexpr uint16_t kF16NaN = 0x7e00;

/// Whether a block with f16 scales can represent the values: all finite, magnitudes up to 65504.
inline bool all_in_f16_range(const float* x, int n) {
  bool all = true;
  for (int i = 0; i < n; ++i) all &= std::abs(x[i]) <= 65504.0f;
  return all;
}

/// 1 / scale, or 0 if that is not finite. The f16 scale of such a block is 0 anyway.
inline float inverse_or_zero(float scale) {
  const float inverse = 1 / scale;
  return std::isfinite(inverse) ? inverse : 0;
}

/// The element with the largest magnitude, the first if there are several.
inline float signed_abs_max(const float* x, int n) {
  float extreme = x[0];
  for (int i = 0; i < n; ++i) {
    if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
  }
  return extreme;
}

}  // namespace mxgpt::quant
