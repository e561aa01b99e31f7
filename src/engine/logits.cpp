#include "engine/logits.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/thread_pool.h"

namespace mxgpt::engine {

namespace {

// 128-bit vectors, available on every x86-64 and ARM processor.
constexpr int kLanes = 4;
using F4 = float __attribute__((vector_size(16)));
using I4 = int32_t __attribute__((vector_size(16)));

F4 load(const float* p) {
  F4 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

/// Loads the last, incomplete vector, padded with -inf.
F4 load_tail(std::span<const float> tail) {
  float padded[kLanes];
  std::fill(std::begin(padded), std::end(padded), -std::numeric_limits<float>::infinity());
  std::copy(tail.begin(), tail.end(), padded);
  return load(padded);
}

template <class Visit>
void for_each_vector(std::span<const float> values, const Visit& visit) {
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) visit(i, load(&values[i]));
  if (i < values.size()) visit(i, load_tail(values.subspan(i)));
}

bool any(I4 mask) {
  int64_t halves[2];
  std::memcpy(halves, &mask, sizeof mask);
  return (halves[0] | halves[1]) != 0;
}

/// Bit-identical to four calls of exp_weight().
F4 exp_weights(F4 x, float max_logit, float scale) {
  const F4 exponent = (x - max_logit) * scale;
  const F4 clamped = exponent < -kExpCutoff ? F4{} - kExpCutoff : exponent;
  const F4 y = clamped * 1.44269504f;
  constexpr float kRound = 12582912;  // 1.5 · 2^23: rounds to an integer
  const F4 shifted = y + kRound;
  const F4 f = (y - (shifted - kRound)) * 0.693147181f;
  const F4 p =
      1 +
      f * (1 + f * (0.5f + f * (1 / 6.0f + f * (1 / 24.0f + f * (1 / 120.0f + f * (1 / 720.0f))))));
  const I4 n = (I4)shifted << 23;  // higher bits are shifted out
  const F4 result = (F4)((I4)p + n);
  return exponent < -kExpCutoff ? F4{} : result;
}

/// Elements per block; a block is summed in a fixed order.
constexpr size_t kBlock = 512;
constexpr int64_t kBlocksPerTask = 4;  // about 2 us

double sum_block(std::span<const float> block, float max_logit, float scale) {
  F4 sum{};
  for_each_vector(block, [&](size_t, F4 x) { sum += exp_weights(x, max_logit, scale); });
  return (static_cast<double>(sum[0]) + sum[1]) + (static_cast<double>(sum[2]) + sum[3]);
}

std::span<const float> block_of(std::span<const float> logits, size_t number) {
  return logits.subspan(number * kBlock, std::min(kBlock, logits.size() - number * kBlock));
}

/// Sums of all blocks, on all threads: a large vocabulary takes 0.2 ms on one.
std::vector<double> block_sums(std::span<const float> logits, float max_logit, float scale) {
  std::vector<double> sums((logits.size() + kBlock - 1) / kBlock);
  parallel_ranges(std::ssize(sums), kBlocksPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      sums[i] = sum_block(block_of(logits, i), max_logit, scale);
  });
  return sums;
}

}  // namespace

float find_max_logit(std::span<const float> logits) {
  constexpr float kLeast = -std::numeric_limits<float>::infinity();
  // Two accumulators hide the latency of the maximum.
  F4 running_max[2] = {F4{} + kLeast, F4{} + kLeast};
  I4 nan_mask[2] = {};
  const auto update = [&](int i, F4 x) {
    running_max[i] = x > running_max[i] ? x : running_max[i];
    nan_mask[i] |= x != x;
  };
  const size_t pairs = logits.size() / (2 * kLanes) * (2 * kLanes);
  for (size_t i = 0; i < pairs; i += 2 * kLanes) {
    update(0, load(&logits[i]));
    update(1, load(&logits[i + kLanes]));
  }
  for_each_vector(logits.subspan(pairs), [&](size_t, F4 x) { update(0, x); });
  if (any(nan_mask[0] | nan_mask[1])) return std::numeric_limits<float>::quiet_NaN();
  float result = kLeast;
  for (int i = 0; i < kLanes; ++i)
    result = std::max({result, running_max[0][i], running_max[1][i]});
  return result;
}

int32_t find_first(std::span<const float> logits, float value) {
  size_t first = logits.size();
  for_each_vector(logits, [&](size_t at, F4 x) {
    if (first < logits.size() || !any(x == value)) return;
    first = at;
    while (logits[first] != value) ++first;
  });
  return static_cast<int32_t>(first);
}

double sum_exp(std::span<const float> logits, float max_logit, float scale) {
  const std::vector<double> sums = block_sums(logits, max_logit, scale);
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

int32_t token_at_cdf(std::span<const float> logits, float max_logit, float scale, double u) {
  const std::vector<double> sums = block_sums(logits, max_logit, scale);
  double remaining = u * std::accumulate(sums.begin(), sums.end(), 0.0);
  size_t chosen = 0;
  while (chosen + 1 < sums.size() && (remaining >= sums[chosen] || sums[chosen] == 0))
    remaining -= sums[chosen++];
  // Rounding may leave a remainder at the end; choose the last block with weight then.
  while (sums[chosen] == 0) --chosen;
  int32_t token = -1;
  bool found = false;
  for_each_vector(block_of(logits, chosen), [&](size_t at, F4 x) {
    const F4 w = exp_weights(x, max_logit, scale);
    for (int lane = 0; lane < kLanes && !found; ++lane) {
      if (w[lane] == 0) continue;
      token = static_cast<int32_t>(chosen * kBlock + at + lane);
      found = (remaining -= w[lane]) < 0;
    }
  });
  return token;
}

void collect_candidates(std::span<const float> logits, float max_logit, float scale, float margin,
                        std::vector<Candidate>& out) {
  out.clear();
  const float threshold = max_logit - margin;
  for_each_vector(logits, [&](size_t at, F4 x) {
    if (!any(x >= threshold)) return;
    const F4 w = exp_weights(x, max_logit, scale);
    for (int lane = 0; lane < kLanes; ++lane) {
      if (x[lane] >= threshold && at + lane < logits.size())
        out.push_back({x[lane], w[lane], static_cast<int32_t>(at + lane)});
    }
  });
}

void top_candidates(std::span<const float> logits, float max_logit, int64_t count,
                    std::vector<Candidate>& out) {
  count = std::min(count, static_cast<int64_t>(logits.size()));
  for (const float margin : {4.0f, 12.0f, std::numeric_limits<float>::infinity()}) {
    collect_candidates(logits, max_logit, 1, margin, out);
    if (static_cast<int64_t>(out.size()) >= count) break;
  }
  if (count < static_cast<int64_t>(out.size())) {
    std::nth_element(out.begin(), out.begin() + count, out.end(), more_probable);
    out.resize(count);
  }
  std::sort(out.begin(), out.end(), more_probable);
}

}  // namespace mxgpt::engine
