// Arithmetic of sampling, bit-identical on CPUs and GPUs: counter-based random numbers, and weights
// of logits that are summed as integers, so that the order of addition does not matter.
#pragma once

#include <bit>
#include <cstdint>

namespace mxgpt {

/// SplitMix64's output function (Steele, Lea & Flood 2014), a bijection that mixes the bits.
constexpr uint64_t splitmix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

/// Id of the random stream of one sequence: request seed and index of the choice.
constexpr uint64_t random_stream(uint64_t seed, int choice) {
  return splitmix64(splitmix64(seed) + static_cast<uint64_t>(choice));
}

/// Uniform variate number `index` of a stream, in [0, 1).
constexpr double uniform(uint64_t stream, uint64_t index) {
  return static_cast<double>(splitmix64(stream + index) >> 11) * 0x1p-53;
}

/// Scaled logits that are further than this below the maximum have weight 0. e^-86 is about the
/// smallest float with full precision.
inline constexpr float kExpCutoff = 86;

/// exp((x - max_logit) · scale), or 0 beyond kExpCutoff; relative error 3e-7. Computes 2^y as
/// 2^n · 2^f, with n the nearest integer and a Taylor polynomial of degree 6 for 2^f. Compiled
/// everywhere without contraction into fused multiply-adds.
constexpr float exp_weight(float x, float max_logit, float scale) {
  const float exponent = (x - max_logit) * scale;
  const float clamped = exponent < -kExpCutoff ? -kExpCutoff : exponent;
  const float y = clamped * 1.44269504f;
  constexpr float kRound = 12582912;  // 1.5 · 2^23: the last bit of the sum is a unit
  const float shifted = y + kRound;
  const float f = (y - (shifted - kRound)) * 0.693147181f;
  const float p =
      1 +
      f * (1 + f * (0.5f + f * (1 / 6.0f + f * (1 / 24.0f + f * (1 / 120.0f + f * (1 / 720.0f))))));
  const uint32_t n = std::bit_cast<uint32_t>(shifted) << 23;  // the upper bits are shifted out
  return exponent < -kExpCutoff ? 0.0f : std::bit_cast<float>(std::bit_cast<uint32_t>(p) + n);
}

/// A weight of at most 1 in fixed point. The sum of 2^20 weights of 1 fits.
constexpr uint64_t to_fixed_point(float weight) {
  return static_cast<uint64_t>(weight * 0x1p40f);
}
/// A sum of weights in the same fixed point.
constexpr uint64_t sum_to_fixed_point(double sum) {
  return static_cast<uint64_t>(sum * 0x1p40);
}

}  // namespace mxgpt
