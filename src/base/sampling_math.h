// What a draw is made of, the same to the bit on a CPU and on a GPU: random numbers that are a
// function of a counter, and weights of logits whose sums are whole numbers, so that the order of
// addition does not matter.
#pragma once

#include <bit>
#include <cstdint>

namespace mxgpt {

/// SplitMix64's output function (Steele, Lea & Flood 2014): a bijection that scatters its bits.
constexpr uint64_t splitmix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

/// The random numbers of one answer: of its request's seed, and of which of the request's choices
/// it is.
constexpr uint64_t random_stream(uint64_t seed, int choice) {
  return splitmix64(splitmix64(seed) + static_cast<uint64_t>(choice));
}

/// The number of a draw, in [0, 1).
constexpr double uniform(uint64_t stream, uint64_t index) {
  return static_cast<double>(splitmix64(stream + index) >> 11) * 0x1p-53;
}

/// Logits further than this below the peak, times the temperature, weigh nothing: e^-86 is about
/// the least that a float holds with full precision.
inline constexpr float kExpCutoff = 86;

/// exp((x - peak) · scale), 0 below kWeightless: to 3e-7 of itself. 2^y = 2^n · 2^f with n the
/// nearest integer; of 2^f the Taylor polynomial of degree 6. Built without contraction of products
/// and sums, everywhere.
constexpr float exp_weight(float x, float max_logit, float scale) {
  const float exponent = (x - max_logit) * scale;
  const float clamped = exponent < -kExpCutoff ? -kExpCutoff : exponent;
  const float y = clamped * 1.44269504f;
  constexpr float kRound = 12582912;  // 1.5 · 2^23: the sum's last bit is a unit
  const float shifted = y + kRound;
  const float f = (y - (shifted - kRound)) * 0.693147181f;
  const float p =
      1 +
      f * (1 + f * (0.5f + f * (1 / 6.0f + f * (1 / 24.0f + f * (1 / 120.0f + f * (1 / 720.0f))))));
  const uint32_t n = std::bit_cast<uint32_t>(shifted) << 23;  // what is above falls off
  return exponent < -kExpCutoff ? 0.0f : std::bit_cast<float>(std::bit_cast<uint32_t>(p) + n);
}

/// A weight of at most 1 as a whole number. Of 2^20 tokens, each with the weight 1, the sum fits.
constexpr uint64_t to_fixed_point(float weight) {
  return static_cast<uint64_t>(weight * 0x1p40f);
}
/// A sum of weights likewise.
constexpr uint64_t sum_to_fixed_point(double sum) {
  return static_cast<uint64_t>(sum * 0x1p40);
}

}  // namespace mxgpt
