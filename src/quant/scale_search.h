// Least-squares search for scales: of one sub-block, and of a super-block whose sub-blocks store
// their scales as integers in units of an f16.
//
// For given integers the best scale is a quotient of sums, and for a given scale the best integers
// are the nearest. The search rounds and solves for several starting scales around the one that
// covers the range, and keeps the best. Once the sub-blocks' scales are integers, it solves for
// their unit again.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#include "quant/float_bits.h"
#include "quant/quantize.h"

namespace mxgpt::quant::fit {

/// Nearest integer, ties to even, for |x| < 2^22: adding 1.5 · 2^23 makes the last bit a unit.
inline float round_to_nearest_even(float x) {
  return x + 0x1.8p23f - 0x1.8p23f;
}

/// x clamped to [low, high]; NaN becomes low.
inline float clamp(float x, float low, float high) {
  return std::min(high, std::max(low, x));
}

/// The integers from low to high as levels; codes count from 0.
template <int low, int high>
struct UniformCodebook {
  static constexpr int kExtreme = low;
  static float level(float x) { return round_to_nearest_even(clamp(x, low, high)); }
  static uint8_t code(float level) { return static_cast<uint8_t>(static_cast<int>(level) - low); }
};

/// Sixteen levels from a rising table; codes are indices.
template <const int8_t (&kValues)[16]>
struct TableCodebook {
  static constexpr int kExtreme = kValues[0];
  static float level(float x) {
    float level = kExtreme;
    for (int i = 0; i < 15; ++i) {
      const int low = kValues[i], high = kValues[i + 1];
      level += x > static_cast<float>(low + high) / 2 ? static_cast<float>(high - low) : 0.0f;
    }
    return level;
  }
  static uint8_t code(float level) {
    return static_cast<uint8_t>(std::lower_bound(kValues, kValues + 16, static_cast<int>(level)) -
                                kValues);
  }
};

/// Σ w x v and Σ w v² over a sub-block, where v is the level nearest to x / scale.
struct ScaleMoments {
  float xv = 0, vv = 0;

  /// Reduction of the squared error by scale · v, compared with zeros.
  float gain(float scale) const { return scale * (2 * xv - scale * vv); }
  float best_scale() const { return vv > 0 ? xv / vv : 0; }
};

template <class Levels, int n>
ScaleMoments round_sub_block(const float* x, const float* w, float scale) {
  const float inverse = inverse_or_zero(scale);
  float xv = 0, vv = 0;
#pragma omp simd reduction(+ : xv, vv)
  for (int i = 0; i < n; ++i) {
    const float v = Levels::level(x[i] * inverse);
    xv += w[i] * x[i] * v;
    vv += w[i] * v * v;
  }
  return {xv, vv};
}

template <class Levels, int n>
void encode_sub_block(const float* x, float scale, uint8_t* codes) {
  const float inverse = inverse_or_zero(scale);
  for (int i = 0; i < n; ++i) codes[i] = Levels::code(Levels::level(x[i] * inverse));
}

/// The best scale for x ≈ scale · v. Either sign is tried, because the lowest level reaches further
/// than the highest.
template <class Levels, int n>
float search_scale(const float* x, const float* w) {
  const float extreme = signed_abs_max(x, n);
  if (extreme == 0) return 0;
  float best = 0, best_gain = 0;
  constexpr int kSteps = 12;
  for (int sign : {1, -1}) {
    for (int step = -kSteps; step <= kSteps; ++step) {
      // The extreme element maps to a level within an eighth of the range around the extreme level,
      // or within one level if there are few.
      constexpr float kRadius = std::max(1.0f, -Levels::kExtreme / 8.0f);
      const float level = Levels::kExtreme + kRadius * static_cast<float>(step) / kSteps;
      const ScaleMoments sums =
          round_sub_block<Levels, n>(x, w, static_cast<float>(sign) * extreme / level);
      const float scale = sums.best_scale(), gain = sums.gain(scale);
      if (gain > best_gain) {
        best_gain = gain;
        best = scale;
      }
    }
  }
  return best;
}

/// x ≈ unit · scale[p] · v for the sub-blocks p of a super-block, with an f16 unit.
template <class Levels, int kSubBlocks, int n>
struct SymmetricSuperBlock {
  uint16_t unit = 0;
  int scale[kSubBlocks] = {};
  float gain = 0;

  float sub_block_scale(int p) const { return f16_to_f32(unit) * static_cast<float>(scale[p]); }

  /// Picks the best integer scale near `ideal` for each sub-block.
  static SymmetricSuperBlock round_scales(const float* x, const float* w, float unit,
                                          const float* ideal, int low, int high) {
    SymmetricSuperBlock out;
    out.unit = f32_to_f16(unit);
    unit = f16_to_f32(out.unit);
    const float inverse = inverse_or_zero(unit);
    for (int p = 0; p < kSubBlocks; ++p) {
      const int middle = static_cast<int>(round_to_nearest_even(
          clamp(ideal[p] * inverse, static_cast<float>(low), static_cast<float>(high))));
      float best = -std::numeric_limits<float>::infinity();
      for (int s = std::max(low, middle - 1); s <= std::min(high, middle + 1); ++s) {
        const float scale = unit * static_cast<float>(s);
        const float gain = round_sub_block<Levels, n>(x + p * n, w + p * n, scale).gain(scale);
        if (gain <= best) continue;
        best = gain;
        out.scale[p] = s;
      }
      out.gain += best;
    }
    return out;
  }

  /// The best unit for these scales and the levels that result from them.
  float solve_unit(const float* x, const float* w) const {
    ScaleMoments all;
    for (int p = 0; p < kSubBlocks; ++p) {
      const ScaleMoments sums =
          round_sub_block<Levels, n>(x + p * n, w + p * n, sub_block_scale(p));
      const float s = static_cast<float>(scale[p]);
      all.xv += s * sums.xv;
      all.vv += s * s * sums.vv;
    }
    return all.best_scale();
  }

  /// Searches scales in [low, high], where -low >= high.
  static SymmetricSuperBlock search(const float* x, const float* w, int low, int high) {
    float ideal[kSubBlocks];
    for (int p = 0; p < kSubBlocks; ++p) ideal[p] = search_scale<Levels, n>(x + p * n, w + p * n);
    const float unit = signed_abs_max(ideal, kSubBlocks) / static_cast<float>(low);
    SymmetricSuperBlock best, now = round_scales(x, w, unit, ideal, low, high);
    for (int iteration = 0; iteration < 3 && now.gain > best.gain; ++iteration) {
      best = now;
      now = round_scales(x, w, best.solve_unit(x, w), ideal, low, high);
    }
    return best;
  }

  void encode(const float* x, uint8_t* codes) const {
    for (int p = 0; p < kSubBlocks; ++p)
      encode_sub_block<Levels, n>(x + p * n, sub_block_scale(p), codes + p * n);
  }
};

/// Weighted sums over a sub-block, where q is the integer nearest to (x + min) / scale.
struct AffineMoments {
  float w = 0, x = 0, q = 0, xq = 0, qq = 0;

  /// Squared error of scale · q - min, minus that of zeros.
  float error(float scale, float min) const {
    return scale * (scale * qq - 2 * xq - 2 * min * q) + min * (min * w + 2 * x);
  }
};

template <int kLevels, int n>
AffineMoments round_sub_block(const float* x, const float* w, float scale, float min) {
  const float inverse = inverse_or_zero(scale);
  float sw = 0, sx = 0, sq = 0, sxq = 0, sqq = 0;
#pragma omp simd reduction(+ : sw, sx, sq, sxq, sqq)
  for (int i = 0; i < n; ++i) {
    const float q = round_to_nearest_even(clamp((x[i] + min) * inverse, 0, kLevels));
    sw += w[i];
    sx += w[i] * x[i];
    sq += w[i] * q;
    sxq += w[i] * x[i] * q;
    sqq += w[i] * q * q;
  }
  return {sw, sx, sq, sxq, sqq};
}

template <int kLevels, int n>
void encode_sub_block(const float* x, float scale, float min, uint8_t* q) {
  const float inverse = inverse_or_zero(scale);
  for (int i = 0; i < n; ++i) {
    q[i] = static_cast<uint8_t>(round_to_nearest_even(clamp((x[i] + min) * inverse, 0, kLevels)));
  }
}

/// Lower bounds of a min: for formats that store it with a sign, and for those that do not.
inline constexpr float kSignedMin = -std::numeric_limits<float>::infinity();
inline constexpr float kUnsignedMin = 0;

/// x ≈ scale · q - min with scale >= 0.
struct AffineGrid {
  float scale = 0, min = 0;

  static AffineGrid solve(const AffineMoments& s, float lower_bound) {
    const float determinant = s.qq * s.w - s.q * s.q;
    if (determinant > 0) {
      const AffineGrid a{(s.xq * s.w - s.x * s.q) / determinant,
                         (s.xq * s.q - s.x * s.qq) / determinant};
      if (a.min >= lower_bound && a.scale >= 0) return a;
    }
    return {s.qq > 0 ? std::max(0.0f, s.xq / s.qq) : 0, 0};
  }
};

template <int kLevels, int n>
AffineGrid search_affine(const float* x, const float* w, float lower_bound) {
  float low = *std::min_element(x, x + n), high = *std::max_element(x, x + n);
  if (lower_bound == kUnsignedMin) {
    low = std::min(0.0f, low);
    high = std::max(0.0f, high);
  }
  if (low == high) return {0, -low};
  AffineGrid best;
  float best_error = std::numeric_limits<float>::infinity();
  constexpr int kSteps = 8;
  for (int step = -kSteps; step <= kSteps; ++step) {
    // Divide the range into up to one level fewer or more.
    AffineGrid now{(high - low) / (kLevels + static_cast<float>(step) / kSteps), -low};
    for (int iteration = 0; iteration < 2; ++iteration) {
      const AffineMoments sums = round_sub_block<kLevels, n>(x, w, now.scale, now.min);
      now = AffineGrid::solve(sums, lower_bound);
      const float error = sums.error(now.scale, now.min);
      if (error < best_error) {
        best_error = error;
        best = now;
      }
    }
  }
  return best;
}

/// x ≈ scale_unit · scale[p] · q - min_unit · min[p] for the sub-blocks p of a super-block. q is in
/// [0, kLevels], scales and mins are in [0, kHighest], both units are f16.
template <int kLevels, int kHighest, int kSubBlocks, int n>
struct AffineSuperBlock {
  uint16_t scale_unit = 0, min_unit = 0;
  int scale[kSubBlocks] = {}, min[kSubBlocks] = {};
  float error = 0;

  AffineGrid sub_block(int p) const {
    return {f16_to_f32(scale_unit) * static_cast<float>(scale[p]),
            f16_to_f32(min_unit) * static_cast<float>(min[p])};
  }

  /// Picks the best integer scale and min near `ideal` for each sub-block.
  static AffineSuperBlock round_scales(const float* x, const float* w, AffineGrid units,
                                       const AffineGrid* ideal) {
    AffineSuperBlock out;
    out.scale_unit = f32_to_f16(units.scale);
    out.min_unit = f32_to_f16(units.min);
    units = {f16_to_f32(out.scale_unit), f16_to_f32(out.min_unit)};
    const float scale_inverse = inverse_or_zero(units.scale);
    const float min_inverse = inverse_or_zero(units.min);
    for (int p = 0; p < kSubBlocks; ++p) {
      const int s0 = static_cast<int>(
          round_to_nearest_even(clamp(ideal[p].scale * scale_inverse, 0, kHighest)));
      const int m0 =
          static_cast<int>(round_to_nearest_even(clamp(ideal[p].min * min_inverse, 0, kHighest)));
      float best = std::numeric_limits<float>::infinity();
      for (int s = std::max(0, s0 - 1); s <= std::min(kHighest, s0 + 1); ++s) {
        for (int m = std::max(0, m0 - 1); m <= std::min(kHighest, m0 + 1); ++m) {
          const float scale = units.scale * static_cast<float>(s);
          const float min = units.min * static_cast<float>(m);
          const float error =
              round_sub_block<kLevels, n>(x + p * n, w + p * n, scale, min).error(scale, min);
          if (error >= best) continue;
          best = error;
          out.scale[p] = s;
          out.min[p] = m;
        }
      }
      out.error += best;
    }
    return out;
  }

  /// The best units for these scales and mins and the integers q that result from them.
  AffineGrid solve_units(const float* x, const float* w) const {
    AffineMoments all;  // with q scaled by scale, and 1 by min
    for (int p = 0; p < kSubBlocks; ++p) {
      const AffineGrid a = sub_block(p);
      const AffineMoments sums = round_sub_block<kLevels, n>(x + p * n, w + p * n, a.scale, a.min);
      const float s = static_cast<float>(scale[p]), m = static_cast<float>(min[p]);
      all.w += m * m * sums.w;
      all.x += m * sums.x;
      all.q += s * m * sums.q;
      all.xq += s * sums.xq;
      all.qq += s * s * sums.qq;
    }
    return AffineGrid::solve(all, kUnsignedMin);
  }

  static AffineSuperBlock search(const float* x, const float* w) {
    AffineGrid ideal[kSubBlocks], largest;
    for (int p = 0; p < kSubBlocks; ++p) {
      ideal[p] = search_affine<kLevels, n>(x + p * n, w + p * n, kUnsignedMin);
      largest = {std::max(largest.scale, ideal[p].scale), std::max(largest.min, ideal[p].min)};
    }
    AffineSuperBlock best,
        now = round_scales(x, w, {largest.scale / kHighest, largest.min / kHighest}, ideal);
    for (int iteration = 0; iteration < 3 && now.error < best.error; ++iteration) {
      best = now;
      now = round_scales(x, w, best.solve_units(x, w), ideal);
    }
    return best;
  }

  void encode(const float* x, uint8_t* q) const {
    for (int p = 0; p < kSubBlocks; ++p) {
      const AffineGrid a = sub_block(p);
      encode_sub_block<kLevels, n>(x + p * n, a.scale, a.min, q + p * n);
    }
  }
};

/// The weights of a block's squared errors: the importance relative to its mean, or ones. Elements
/// without importance keep a small weight, because a calibration text does not exercise everything.
template <int n>
struct ErrorWeights {
  float values[n];
  ErrorWeights(const float* importance, int64_t at) {
    const float mean =
        importance ? std::accumulate(importance + at, importance + at + n, 0.0f) / n : 0;
    const bool usable = mean > 0 && std::isfinite(mean);
    for (int i = 0; i < n; ++i) values[i] = usable ? importance[at + i] / mean + 1e-4f : 1;
  }
};

}  // namespace mxgpt::quant::fit
