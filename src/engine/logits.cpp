#include "engine/logits.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/threads.h"

namespace mxgpt {

namespace {

// Of the width that every x86-64 and ARM processor has.
constexpr int kLanes = 4;
using F4 = float __attribute__((vector_size(16)));
using I4 = int32_t __attribute__((vector_size(16)));

F4 load(const float* p) {
  F4 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

/// The last, incomplete vector, filled up with what weighs nothing.
F4 load_tail(std::span<const float> tail) {
  float padded[kLanes];
  std::fill(std::begin(padded), std::end(padded), -std::numeric_limits<float>::infinity());
  std::copy(tail.begin(), tail.end(), padded);
  return load(padded);
}

template <class Visit>
void each_vector(std::span<const float> values, const Visit& visit) {
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) visit(i, load(&values[i]));
  if (i < values.size()) visit(i, load_tail(values.subspan(i)));
}

bool any(I4 mask) {
  int64_t halves[2];
  std::memcpy(halves, &mask, sizeof mask);
  return (halves[0] | halves[1]) != 0;
}

/// Four of weight(), with the same bits.
F4 weights(F4 x, float peak, float scale) {
  const F4 exponent = (x - peak) * scale;
  const F4 clamped = exponent < -kWeightless ? F4{} - kWeightless : exponent;
  const F4 y = clamped * 1.44269504f;
  constexpr float kRound = 12582912;  // 1.5 · 2^23: the sum's last bit is a unit
  const F4 shifted = y + kRound;
  const F4 f = (y - (shifted - kRound)) * 0.693147181f;
  const F4 p =
      1 +
      f * (1 + f * (0.5f + f * (1 / 6.0f + f * (1 / 24.0f + f * (1 / 120.0f + f * (1 / 720.0f))))));
  const I4 n = (I4)shifted << 23;  // what is above falls off the left end
  const F4 result = (F4)((I4)p + n);
  return exponent < -kWeightless ? F4{} : result;
}

/// A block's weights are added in one order everywhere.
constexpr size_t kBlock = 512;
constexpr int64_t kBlocksAtOnce = 4;  // that one thread takes: some 2 us

double sum_block(std::span<const float> block, float peak, float scale) {
  F4 sum{};
  each_vector(block, [&](size_t, F4 x) { sum += weights(x, peak, scale); });
  return (static_cast<double>(sum[0]) + sum[1]) + (static_cast<double>(sum[2]) + sum[3]);
}

std::span<const float> block_of(std::span<const float> logits, size_t number) {
  return logits.subspan(number * kBlock, std::min(kBlock, logits.size() - number * kBlock));
}

/// Of all blocks. A large vocabulary takes 0.2 ms, of which a step of few sequences would see much:
/// all threads share them.
std::vector<double> block_sums(std::span<const float> logits, float peak, float scale) {
  std::vector<double> sums((logits.size() + kBlock - 1) / kBlock);
  parallel_ranges(std::ssize(sums), kBlocksAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sums[i] = sum_block(block_of(logits, i), peak, scale);
  });
  return sums;
}

}  // namespace

float peak(std::span<const float> logits) {
  constexpr float kLeast = -std::numeric_limits<float>::infinity();
  // Two of each, as a maximum takes longer than the time between two.
  F4 most[2] = {F4{} + kLeast, F4{} + kLeast};
  I4 none[2] = {};
  const auto see = [&](int i, F4 x) {
    most[i] = x > most[i] ? x : most[i];
    none[i] |= x != x;
  };
  const size_t pairs = logits.size() / (2 * kLanes) * (2 * kLanes);
  for (size_t i = 0; i < pairs; i += 2 * kLanes) {
    see(0, load(&logits[i]));
    see(1, load(&logits[i + kLanes]));
  }
  each_vector(logits.subspan(pairs), [&](size_t, F4 x) { see(0, x); });
  if (any(none[0] | none[1])) return std::numeric_limits<float>::quiet_NaN();
  float result = kLeast;
  for (int i = 0; i < kLanes; ++i) result = std::max({result, most[0][i], most[1][i]});
  return result;
}

int32_t first_at(std::span<const float> logits, float value) {
  size_t first = logits.size();
  each_vector(logits, [&](size_t at, F4 x) {
    if (first < logits.size() || !any(x == value)) return;
    first = at;
    while (logits[first] != value) ++first;
  });
  return static_cast<int32_t>(first);
}

double sum_weights(std::span<const float> logits, float peak, float scale) {
  const std::vector<double> sums = block_sums(logits, peak, scale);
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

int32_t token_at_share(std::span<const float> logits, float peak, float scale, double share) {
  const std::vector<double> sums = block_sums(logits, peak, scale);
  double left = share * std::accumulate(sums.begin(), sums.end(), 0.0);
  size_t chosen = 0;
  while (chosen + 1 < sums.size() && (left >= sums[chosen] || sums[chosen] == 0))
    left -= sums[chosen++];
  // Rounding may leave a little at the very end, and there the last that weighs something is it.
  while (sums[chosen] == 0) --chosen;
  int32_t token = -1;
  bool found = false;
  each_vector(block_of(logits, chosen), [&](size_t at, F4 x) {
    const F4 w = weights(x, peak, scale);
    for (int lane = 0; lane < kLanes && !found; ++lane) {
      if (w[lane] == 0) continue;
      token = static_cast<int32_t>(chosen * kBlock + at + lane);
      found = (left -= w[lane]) < 0;
    }
  });
  return token;
}

void collect(std::span<const float> logits, float peak, float scale, float below,
             std::vector<Candidate>& out) {
  out.clear();
  const float least = peak - below;
  each_vector(logits, [&](size_t at, F4 x) {
    if (!any(x >= least)) return;
    const F4 w = weights(x, peak, scale);
    for (int lane = 0; lane < kLanes; ++lane) {
      if (x[lane] >= least && at + lane < logits.size())
        out.push_back({x[lane], w[lane], static_cast<int32_t>(at + lane)});
    }
  });
}

void likeliest(std::span<const float> logits, float peak, int64_t count,
               std::vector<Candidate>& out) {
  count = std::min(count, static_cast<int64_t>(logits.size()));
  for (const float below : {4.0f, 12.0f, std::numeric_limits<float>::infinity()}) {
    collect(logits, peak, 1, below, out);
    if (static_cast<int64_t>(out.size()) >= count) break;
  }
  if (count < static_cast<int64_t>(out.size())) {
    std::nth_element(out.begin(), out.begin() + count, out.end(), likelier);
    out.resize(count);
  }
  std::sort(out.begin(), out.end(), likelier);
}

}  // namespace mxgpt
