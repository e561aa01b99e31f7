// One thread block per row. Sums over tokens use blocks of 512 with four partial sums, like
// engine/logits.cpp. All other sums are of integers, so their order does not matter.
#include <algorithm>

#include "backend/cuda/generic/block_reduce.cuh"
#include "backend/cuda/generic/sampling.h"
#include "base/sampling_math.h"

namespace mxgpt::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kBlock = 512, kLanes = 4;  // as in engine/logits.cpp
constexpr int kBins = 256;

/// Order-preserving map from float to uint32, without NaN.
__device__ __forceinline__ uint32_t key_of(float x) {
  const uint32_t u = __float_as_uint(x == 0 ? 0.0f : x);  // -0 is 0
  return u & 0x80000000u ? ~u : u | 0x80000000u;
}

template <class T>
__device__ T block_total(T value, T* shared) {
  __syncthreads();
  if (threadIdx.x == 0) *shared = 0;
  __syncthreads();
  atomicAdd(shared, value);
  __syncthreads();
  return *shared;
}

/// Exclusive prefix sum over the threads.
template <class T>
__device__ T sum_before(T value, T* shared) {
  T sum = value;
  __syncthreads();
  shared[threadIdx.x] = sum;
  __syncthreads();
  for (int step = 1; step < kThreads; step *= 2) {
    const T other = static_cast<int>(threadIdx.x) >= step ? shared[threadIdx.x - step] : 0;
    __syncthreads();
    shared[threadIdx.x] = sum += other;
    __syncthreads();
  }
  return sum - value;
}

struct Shared {
  unsigned long long bins[kBins];
  unsigned long long scan[kThreads];
  double sums[kMaxSampledVocabulary / kBlock];
  float weights[kBlock];
  unsigned long long total;
  unsigned int count, largest;
  int bad, token;
  uint32_t prefix;
  unsigned long long left;
  int chosen;
};

/// Tokens that remain: all with a larger key, and the first `equal` with this key.
struct Kept {
  uint32_t key;
  unsigned int equal;  ///< number of them
};

struct Row {
  const float* logits;
  int size;
  float peak, scale;

  __device__ float weight_of(int token) const { return exp_weight(logits[token], peak, scale); }
};

/// The most probable tokens whose values sum to `enough`: 1 per token for counts, its weight for
/// sums. All tokens if they do not reach it; at least one.
template <bool kCount>
__device__ Kept reach(const Row& row, const Kept& among, unsigned long long enough, Shared& s) {
  uint32_t prefix = 0;
  unsigned long long above = 0;  // sum over keys above this prefix
  for (int shift = 24; shift >= 0; shift -= 8) {
    __syncthreads();
    for (int i = threadIdx.x; i < kBins; i += kThreads) s.bins[i] = 0;
    __syncthreads();
    for (int t = threadIdx.x; t < row.size; t += kThreads) {
      const uint32_t key = key_of(row.logits[t]);
      if (key < among.key || (shift < 24 && key >> (shift + 8) != prefix >> (shift + 8))) continue;
      const unsigned long long value = kCount ? 1 : to_fixed_point(row.weight_of(t));
      if (kCount || value) atomicAdd(&s.bins[key >> shift & (kBins - 1)], value);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      // The bin in which the sum reaches `enough`, or the lowest non-empty one.
      int bin = kBins - 1, last = -1;
      unsigned long long sum = above;
      for (; bin >= 0; --bin) {
        if (s.bins[bin] == 0) continue;
        last = bin;
        if (sum + s.bins[bin] >= enough) break;
        sum += s.bins[bin];
      }
      if (bin < 0) sum -= s.bins[last];
      s.prefix = prefix | static_cast<uint32_t>(last) << shift;
      s.left = sum;
    }
    __syncthreads();
    prefix = s.prefix;
    above = s.left;
  }
  // Tokens with this key have equal weight: as many as needed, at least one, at most those that
  // remain.
  unsigned int equal = 0;
  for (int t = threadIdx.x; t < row.size; t += kThreads) equal += key_of(row.logits[t]) == prefix;
  equal = block_total(equal, &s.count);
  if (prefix == among.key) equal = min(equal, among.equal);
  const float x = __uint_as_float(prefix & 0x80000000u ? prefix & 0x7fffffffu : ~prefix);
  const unsigned long long each = kCount ? 1 : to_fixed_point(exp_weight(x, row.peak, row.scale));
  unsigned long long needed = equal;
  if (each > 0 && above < enough) needed = (enough - above + each - 1) / each;
  if (above >= enough) needed = 1;
  return {prefix, static_cast<unsigned int>(min(max(needed, 1ull), 1ull * equal))};
}

/// Σ weights in the order of sum_weights(): s.sums per block, and their sum.
__device__ double sums_of_blocks(const Row& row, Shared& s) {
  const int blocks = (row.size + kBlock - 1) / kBlock;
  __syncthreads();
  for (int i = threadIdx.x; i < blocks * kLanes; i += kThreads) {
    const int block = i / kLanes, lane = i % kLanes;
    float sum = 0;
    for (int t = block * kBlock + lane; t < min((block + 1) * kBlock, row.size); t += kLanes)
      sum += row.weight_of(t);
    // The four are adjacent lanes of one warp.
    const unsigned four = 0xfu << (threadIdx.x % kWarp / kLanes * kLanes);
    const float b = __shfl_down_sync(four, sum, 1, kLanes);
    const float c = __shfl_down_sync(four, sum, 2, kLanes);
    const float d = __shfl_down_sync(four, sum, 3, kLanes);
    if (lane == 0) s.sums[block] = (static_cast<double>(sum) + b) + (static_cast<double>(c) + d);
  }
  __syncthreads();
  double total = 0;
  for (int i = 0; i < blocks; ++i) total += s.sums[i];  // redundantly in every thread
  return total;
}

__device__ int token_at_uniform(const Row& row, double share, Shared& s) {
  const double total = sums_of_blocks(row, s);
  const int blocks = (row.size + kBlock - 1) / kBlock;
  double left = share * total;
  int chosen = 0;
  while (chosen + 1 < blocks && (left >= s.sums[chosen] || s.sums[chosen] == 0))
    left -= s.sums[chosen++];
  while (s.sums[chosen] == 0) --chosen;
  const int first = chosen * kBlock, count = min(kBlock, row.size - first);
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += kThreads) s.weights[i] = row.weight_of(first + i);
  __syncthreads();
  int token = -1;
  for (int i = 0; i < count; ++i) {
    if (s.weights[i] == 0) continue;
    token = first + i;
    if ((left -= s.weights[i]) < 0) break;
  }
  return token;
}

__device__ int draw_filtered(const Row& row, const RowSampling& how, Shared& s) {
  Kept kept{key_of(-INFINITY), ~0u};
  if (how.top_k > 0) kept = reach<true>(row, kept, how.top_k, s);
  if (how.top_p < 1) {
    unsigned long long enough = 0;
    if (how.top_k > 0) {
      unsigned long long sum = 0, equal = 0;
      for (int t = threadIdx.x; t < row.size; t += kThreads) {
        const uint32_t key = key_of(row.logits[t]);
        if (key > kept.key) sum += to_fixed_point(row.weight_of(t));
        if (key == kept.key) equal = to_fixed_point(row.weight_of(t));
      }
      sum = block_total(sum, &s.total);
      // At least one thread has computed the key's weight.
      __syncthreads();
      if (threadIdx.x == 0) s.left = 0;
      __syncthreads();
      atomicMax(&s.left, equal);
      __syncthreads();
      sum += s.left * kept.equal;
      enough = static_cast<unsigned long long>(how.top_p * static_cast<double>(sum));
    } else {
      enough = sum_to_fixed_point(how.top_p * sums_of_blocks(row, s));
    }
    kept = reach<false>(row, kept, enough, s);
  }
  // Each thread has consecutive tokens, which keeps their order.
  const int each = (row.size + kThreads - 1) / kThreads;
  const int first = min(row.size, static_cast<int>(threadIdx.x) * each);
  const int end = min(row.size, first + each);
  unsigned long long equal = 0;
  for (int t = first; t < end; ++t) equal += key_of(row.logits[t]) == kept.key;
  const unsigned long long equal_before = sum_before(equal, s.scan);
  const auto visit = [&](auto&& see) {
    unsigned long long met = equal_before;
    for (int t = first; t < end; ++t) {
      const uint32_t key = key_of(row.logits[t]);
      if (key < kept.key || (key == kept.key && met++ >= kept.equal)) continue;
      const float w = row.weight_of(t);
      if (static_cast<double>(w) >= how.min_p && see(t, to_fixed_point(w))) return;
    }
  };
  unsigned long long own = 0;
  visit([&](int, uint64_t w) {
    own += w;
    return false;
  });
  const unsigned long long before = sum_before(own, s.scan);
  const unsigned long long total = block_total(own, &s.total);
  const unsigned long long at =
      min(static_cast<unsigned long long>(how.uniform * static_cast<double>(total)), total - 1);
  if (at >= before && at < before + own) {
    unsigned long long passed = before;
    visit([&](int t, uint64_t w) {
      passed += w;
      s.token = t;
      return passed > at;
    });
  }
  __syncthreads();
  return s.token;
}

/// The largest key. Sets s.bad if a logit is NaN.
__device__ uint32_t largest_key(const float* logits, int size, Shared& s) {
  __syncthreads();
  if (threadIdx.x == 0) s.largest = s.bad = 0;
  __syncthreads();
  uint32_t largest = 0;
  bool bad = false;
  for (int t = threadIdx.x; t < size; t += kThreads) {
    const float x = logits[t];
    bad |= x != x;
    largest = max(largest, key_of(x));
  }
  if (bad) s.bad = 1;
  atomicMax(&s.largest, largest);
  __syncthreads();
  return s.largest;
}

__device__ bool is_finite_key(uint32_t key) {
  return key > key_of(-INFINITY) && key < key_of(INFINITY);
}

__global__ void __launch_bounds__(kThreads) sample_kernel(SampleArgs p) {
  __shared__ Shared s;
  const RowSampling how = p.params[blockIdx.x];
  float* const logits = p.logits + static_cast<int64_t>(blockIdx.x) * p.vocabulary;
  const auto finish = [&](int token) {
    if (threadIdx.x == 0) p.tokens[blockIdx.x] = token;
  };
  uint32_t largest = largest_key(logits, p.vocabulary, s);
  if (s.bad || !is_finite_key(largest)) return finish(-1);
  if (how.edits || how.mask >= 0) {
    for (int i = threadIdx.x; i < how.edits; i += kThreads) {
      const LogitEdit edit = p.edits[how.first_edit + i];
      float x = logits[edit.token] + edit.bias;
      x = x > 0 ? x / edit.repetition : x * edit.repetition;
      logits[edit.token] = x - edit.penalty;
    }
    __syncthreads();
    if (how.mask >= 0) {
      const uint32_t* mask = p.masks + static_cast<int64_t>(how.mask) * ((p.vocabulary + 31) / 32);
      for (int t = threadIdx.x; t < p.vocabulary; t += kThreads)
        if (!(mask[t / 32] >> t % 32 & 1)) logits[t] = -INFINITY;
    }
    largest = largest_key(logits, p.vocabulary, s);
    if (s.bad || !is_finite_key(largest)) return finish(-1);
  }
  const float peak = __uint_as_float(largest & 0x80000000u ? largest & 0x7fffffffu : ~largest);
  const Row row{logits, p.vocabulary, peak, how.scale};
  if (how.scale == 0) {
    __syncthreads();
    if (threadIdx.x == 0) s.token = p.vocabulary;
    __syncthreads();
    for (int t = threadIdx.x; t < p.vocabulary; t += kThreads)
      if (logits[t] == peak) atomicMin(&s.token, t);
    __syncthreads();
    return finish(s.token);
  }
  const bool all = how.top_k == 0 && how.top_p == 1 && how.min_p == 0;
  finish(all ? token_at_uniform(row, how.uniform, s) : draw_filtered(row, how, s));
}

}  // namespace

void sample(const SampleArgs& p, CudaStream stream) {
  sample_kernel<<<p.rows, kThreads, 0, stream>>>(p);
}

}  // namespace mxgpt::cuda
