// Least-squares fits behind the quantizers that search: the scale of one part, and the shared units
// of the parts of a block.
//
// For given integers the best scale is a quotient of sums, and for a given scale the best integers
// are the nearest. So a few starting scales around the one that just covers the range are rounded
// and solved, the best is kept, and after the parts' scales have become integers themselves their
// unit is solved again.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#include "quant/float_bits.h"
#include "quant/iq4_nl/iq4_nl.h"
#include "quant/quantize.h"

namespace mxgpt::quant::fit {

/// Nearest integer, halves to even, for |x| < 2^22: the unit of the sum is 1, so that it rounds.
inline float round_to_nearest_even(float x) {
  return x + 0x1.8p23f - 0x1.8p23f;
}

/// x within [low, high]; NaN becomes low.
inline float clamp(float x, float low, float high) {
  return std::min(high, std::max(low, x));
}

/// Levels low … high; codes count from 0.
template <int low, int high>
struct UniformCodebook {
  static constexpr int kExtreme = low;
  static float level(float x) { return round_to_nearest_even(clamp(x, low, high)); }
  static uint8_t code(float level) { return static_cast<uint8_t>(static_cast<int>(level) - low); }
};

/// Levels of IQ4_NL and IQ4_XS.
struct Iq4NlCodebook {
  static constexpr const int8_t (&kValues)[16] = IQ4_NL::kValues;
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

/// Σ w x v and Σ w v² over a part, v the levels nearest to x / scale.
struct ScaleMoments {
  float xv = 0, vv = 0;

  /// By how much the squared error of scale · v is below that of zeros.
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

/// The scale of x ≈ scale · v. It has the sign that maps the extreme element to the lowest level,
/// of which there is one more than of the highest, or the other.
template <class Levels, int n>
float search_scale(const float* x, const float* w) {
  const float extreme = signed_abs_max(x, n);
  if (extreme == 0) return 0;
  float best = 0, best_gain = 0;
  constexpr int kSteps = 12;
  for (int sign : {1, -1}) {
    for (int step = -kSteps; step <= kSteps; ++step) {
      // The extreme element lands within an eighth of the range around the extreme level; for few
      // levels, within one level.
      constexpr float kReach = std::max(1.0f, -Levels::kExtreme / 8.0f);
      const float level = Levels::kExtreme + kReach * static_cast<float>(step) / kSteps;
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

/// x ≈ unit · scale[p] · v for the parts p of a block, unit an f16.
template <class Levels, int kSubBlocks, int n>
struct SymmetricSuperBlock {
  uint16_t unit = 0;
  int scale[kSubBlocks] = {};
  float gain = 0;

  float sub_block_scale(int p) const { return f16_to_f32(unit) * static_cast<float>(scale[p]); }

  /// For each part the best scale of those near `wanted`.
  static SymmetricSuperBlock round_scales(const float* x, const float* w, float unit,
                                          const float* wanted, int low, int high) {
    SymmetricSuperBlock out;
    out.unit = f32_to_f16(unit);
    unit = f16_to_f32(out.unit);
    const float inverse = inverse_or_zero(unit);
    for (int p = 0; p < kSubBlocks; ++p) {
      const int middle = static_cast<int>(round_to_nearest_even(
          clamp(wanted[p] * inverse, static_cast<float>(low), static_cast<float>(high))));
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

  /// The unit that fits best with these scales and the levels that they lead to.
  float solve_unit(const float* x, const float* w) const {
    ScaleMoments all;
    for (int p = 0; p < kSubBlocks; ++p) {
      const ScaleMoments part =
          round_sub_block<Levels, n>(x + p * n, w + p * n, sub_block_scale(p));
      const float s = static_cast<float>(scale[p]);
      all.xv += s * part.xv;
      all.vv += s * s * part.vv;
    }
    return all.best_scale();
  }

  /// Scales are in [low, high], with -low >= high.
  static SymmetricSuperBlock search(const float* x, const float* w, int low, int high) {
    float wanted[kSubBlocks];
    for (int p = 0; p < kSubBlocks; ++p) wanted[p] = search_scale<Levels, n>(x + p * n, w + p * n);
    const float unit = signed_abs_max(wanted, kSubBlocks) / static_cast<float>(low);
    SymmetricSuperBlock best, now = round_scales(x, w, unit, wanted, low, high);
    for (int turn = 0; turn < 3 && now.gain > best.gain; ++turn) {
      best = now;
      now = round_scales(x, w, best.solve_unit(x, w), wanted, low, high);
    }
    return best;
  }

  void encode(const float* x, uint8_t* codes) const {
    for (int p = 0; p < kSubBlocks; ++p)
      encode_sub_block<Levels, n>(x + p * n, sub_block_scale(p), codes + p * n);
  }
};

/// Sums over a part with q the integers nearest to (x + minimum) / scale.
struct AffineMoments {
  float w = 0, x = 0, q = 0, xq = 0, qq = 0;

  /// Squared error of scale · q - minimum, less that of zeros.
  float error(float scale, float minimum) const {
    return scale * (scale * qq - 2 * xq - 2 * minimum * q) + minimum * (minimum * w + 2 * x);
  }
};

template <int kLevels, int n>
AffineMoments round_sub_block(const float* x, const float* w, float scale, float minimum) {
  const float inverse = inverse_or_zero(scale);
  float sw = 0, sx = 0, sq = 0, sxq = 0, sqq = 0;
#pragma omp simd reduction(+ : sw, sx, sq, sxq, sqq)
  for (int i = 0; i < n; ++i) {
    const float q = round_to_nearest_even(clamp((x[i] + minimum) * inverse, 0, kLevels));
    sw += w[i];
    sx += w[i] * x[i];
    sq += w[i] * q;
    sxq += w[i] * x[i] * q;
    sqq += w[i] * q * q;
  }
  return {sw, sx, sq, sxq, sqq};
}

template <int kLevels, int n>
void encode_sub_block(const float* x, float scale, float minimum, uint8_t* q) {
  const float inverse = inverse_or_zero(scale);
  for (int i = 0; i < n; ++i) {
    q[i] =
        static_cast<uint8_t>(round_to_nearest_even(clamp((x[i] + minimum) * inverse, 0, kLevels)));
  }
}

/// Bounds of a minimum from below: for formats with a sign for it, and for those without.
inline constexpr float kSignedMin = -std::numeric_limits<float>::infinity();
inline constexpr float kUnsignedMin = 0;

/// x ≈ scale · q - minimum with scale >= 0.
struct AffineGrid {
  float scale = 0, min = 0;

  static AffineGrid solve(const AffineMoments& s, float least) {
    const float determinant = s.qq * s.w - s.q * s.q;
    if (determinant > 0) {
      const AffineGrid a{(s.xq * s.w - s.x * s.q) / determinant,
                         (s.xq * s.q - s.x * s.qq) / determinant};
      if (a.min >= least && a.scale >= 0) return a;
    }
    return {s.qq > 0 ? std::max(0.0f, s.xq / s.qq) : 0, 0};
  }
};

template <int kLevels, int n>
AffineGrid search_affine(const float* x, const float* w, float least) {
  float low = *std::min_element(x, x + n), high = *std::max_element(x, x + n);
  if (least == kUnsignedMin) {
    low = std::min(0.0f, low);
    high = std::max(0.0f, high);
  }
  if (low == high) return {0, -low};
  AffineGrid best;
  float best_error = std::numeric_limits<float>::infinity();
  constexpr int kSteps = 8;
  for (int step = -kSteps; step <= kSteps; ++step) {
    // The range is cut into one level less, up to one more.
    AffineGrid now{(high - low) / (kLevels + static_cast<float>(step) / kSteps), -low};
    for (int turn = 0; turn < 2; ++turn) {
      const AffineMoments sums = round_sub_block<kLevels, n>(x, w, now.scale, now.min);
      now = AffineGrid::solve(sums, least);
      const float error = sums.error(now.scale, now.min);
      if (error < best_error) {
        best_error = error;
        best = now;
      }
    }
  }
  return best;
}

/// x ≈ scale_unit · scale[p] · q - min_unit · minimum[p] for the parts p of a block, q in [0,
/// kLevels], both units f16, scales and minima in [0, kHighest].
template <int kLevels, int kHighest, int kSubBlocks, int n>
struct AffineSuperBlock {
  uint16_t scale_unit = 0, min_unit = 0;
  int scale[kSubBlocks] = {}, min[kSubBlocks] = {};
  float error = 0;

  AffineGrid sub_block(int p) const {
    return {f16_to_f32(scale_unit) * static_cast<float>(scale[p]),
            f16_to_f32(min_unit) * static_cast<float>(min[p])};
  }

  /// For each part the best scale and minimum of those near `wanted`.
  static AffineSuperBlock round_scales(const float* x, const float* w, AffineGrid units,
                                       const AffineGrid* wanted) {
    AffineSuperBlock out;
    out.scale_unit = f32_to_f16(units.scale);
    out.min_unit = f32_to_f16(units.min);
    units = {f16_to_f32(out.scale_unit), f16_to_f32(out.min_unit)};
    const float scale_inverse = inverse_or_zero(units.scale);
    const float minimum_inverse = inverse_or_zero(units.min);
    for (int p = 0; p < kSubBlocks; ++p) {
      const int s0 = static_cast<int>(
          round_to_nearest_even(clamp(wanted[p].scale * scale_inverse, 0, kHighest)));
      const int m0 = static_cast<int>(
          round_to_nearest_even(clamp(wanted[p].min * minimum_inverse, 0, kHighest)));
      float best = std::numeric_limits<float>::infinity();
      for (int s = std::max(0, s0 - 1); s <= std::min(kHighest, s0 + 1); ++s) {
        for (int m = std::max(0, m0 - 1); m <= std::min(kHighest, m0 + 1); ++m) {
          const float scale = units.scale * static_cast<float>(s);
          const float minimum = units.min * static_cast<float>(m);
          const float error = round_sub_block<kLevels, n>(x + p * n, w + p * n, scale, minimum)
                                  .error(scale, minimum);
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

  /// The units that fit best with these scales and minima and the integers that they lead to.
  AffineGrid solve_units(const float* x, const float* w) const {
    AffineMoments all;  // with scale · q for q, and the minimum for 1
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
    AffineGrid wanted[kSubBlocks], largest;
    for (int p = 0; p < kSubBlocks; ++p) {
      wanted[p] = search_affine<kLevels, n>(x + p * n, w + p * n, kUnsignedMin);
      largest = {std::max(largest.scale, wanted[p].scale), std::max(largest.min, wanted[p].min)};
    }
    AffineSuperBlock best,
        now = round_scales(x, w, {largest.scale / kHighest, largest.min / kHighest}, wanted);
    for (int turn = 0; turn < 3 && now.error < best.error; ++turn) {
      best = now;
      now = round_scales(x, w, best.solve_units(x, w), wanted);
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

/// The weights of a block's squared errors: the importance, or ones. What has no importance still
/// counts a little, because a calibration text cannot show everything.
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
