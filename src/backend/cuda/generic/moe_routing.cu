// Routing of a mixture of experts, and the weighted sum of the experts' outputs.
#include <algorithm>
#include <climits>

#include "backend/cuda/generic/kernels.h"

namespace mxgpt::cuda {
namespace {

constexpr int kThreads = 256, kSortThreads = 1024, kWarpThreads = 32;

/// Order-preserving map from float to uint32, NaN highest, so that a NaN is selected and
/// propagates.
__device__ uint32_t ordered(float score) {
  if (score != score) return ~0u;
  const uint32_t bits = __float_as_uint(score + 0.0f);  // -0 becomes 0
  return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

/// One warp per row: selects the best expert repeatedly; ties go to the lower expert.
__global__ void __launch_bounds__(kThreads)
    choose_kernel(const float* logits, int rows, int experts, int top_k, ExpertAssignment r) {
  const int row = (blockIdx.x * kThreads + threadIdx.x) / kWarpThreads;
  const int lane = threadIdx.x % kWarpThreads;
  if (row >= rows) return;
  const float* mine = logits + static_cast<int64_t>(row) * experts;
  int32_t* expert = r.topk_ids + row * top_k;
  float* weight = r.topk_weights + row * top_k;
  uint32_t last = ~0u;
  int last_expert = -1;
  float best = 0, total = 0;
  for (int s = 0; s < top_k; ++s) {
    uint32_t most = 0;
    int at = INT_MAX;
    for (int e = lane; e < experts; e += kWarpThreads) {
      const uint32_t key = ordered(mine[e]);
      const bool left = key < last || (key == last && e > last_expert);
      if (left && (at == INT_MAX || key > most)) most = key, at = e;
    }
    last = __reduce_max_sync(~0u, most);
    last_expert = __reduce_min_sync(~0u, most == last ? at : INT_MAX);
    const float score = mine[last_expert];
    if (s == 0) best = score;
    const float power = expf(score - best);
    total += power;
    if (lane == 0) expert[s] = last_expert, weight[s] = power;
  }
  if (lane == 0)
    for (int s = 0; s < top_k; ++s) weight[s] /= total;
}

/// Lanes of the warp with the same expert, and how many of them precede this one.
struct Rank {
  unsigned same;
  int before;
  __device__ explicit Rank(int expert) : same(__match_any_sync(~0u, expert)) {
    before = __popc(same & ((1u << threadIdx.x % kWarpThreads) - 1));
  }
  __device__ bool is_last() const { return before + 1 == __popc(same); }
};

/// Stable counting sort by one block. Each warp has a contiguous range of pairs, which it counts
/// first.
__global__ void __launch_bounds__(kSortThreads)
    sort_kernel(int pairs, int experts, int top_k, ExpertAssignment r) {
  extern __shared__ int32_t counts[];  // [warps][experts]
  const int lane = threadIdx.x % kWarpThreads, warp = threadIdx.x / kWarpThreads;
  const int warps = blockDim.x / kWarpThreads;
  const int rounds = (pairs + blockDim.x - 1) / blockDim.x;
  const int first = warp * rounds * kWarpThreads;
  int32_t* const own = counts + warp * experts;
  for (int e = lane; e < experts; e += kWarpThreads) own[e] = 0;
  __syncwarp();
  for (int round = 0; round < rounds; ++round) {
    const int i = first + round * kWarpThreads + lane;
    const int e = i < pairs ? r.topk_ids[i] : -1;
    const Rank rank(e);
    if (e >= 0 && rank.is_last()) own[e] += rank.before + 1;
    __syncwarp();
  }
  __syncthreads();
  // Per expert: the total, and the exclusive prefix sum over warps.
  for (int e = threadIdx.x; e < experts; e += blockDim.x) {
    int sum = 0;
    for (int w = 0; w < warps; ++w) {
      const int count = counts[w * experts + e];
      counts[w * experts + e] = sum;
      sum += count;
    }
    r.expert_offsets[e + 1] = sum;
  }
  __syncthreads();
  if (warp == 0) {
    int before = 0;
    if (lane == 0) r.expert_offsets[0] = 0;
    for (int e0 = 0; e0 < experts; e0 += kWarpThreads) {
      const int e = e0 + lane;
      int sum = e < experts ? r.expert_offsets[e + 1] : 0;
      for (int step = 1; step < kWarpThreads; step *= 2) {
        const int lower = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += lower;
      }
      if (e < experts) r.expert_offsets[e + 1] = before + sum;
      before += __shfl_sync(~0u, sum, kWarpThreads - 1);
    }
  }
  __syncthreads();
  for (int round = 0; round < rounds; ++round) {
    const int i = first + round * kWarpThreads + lane;
    const int e = i < pairs ? r.topk_ids[i] : -1;
    const Rank rank(e);
    if (e >= 0) {
      const int at = r.expert_offsets[e] + own[e] + rank.before;
      r.sorted_token_ids[at] = i / top_k;
      r.inverse_permutation[i] = at;
    }
    __syncwarp();
    if (e >= 0 && rank.is_last()) own[e] += rank.before + 1;
    __syncwarp();
  }
}

__global__ void combine_kernel(ExpertAssignment r, int top_k, const float* down, int hidden,
                               float* x) {
  const int row = blockIdx.y, i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= hidden) return;
  float& out = x[static_cast<int64_t>(row) * hidden + i];
  float sum = out;
  for (int s = 0; s < top_k; ++s) {
    const int choice = row * top_k + s;
    sum = fmaf(r.topk_weights[choice],
               down[static_cast<int64_t>(r.inverse_permutation[choice]) * hidden + i], sum);
  }
  out = sum;
}

}  // namespace

void route_topk(const float* logits, int rows, int experts, int top_k, const ExpertAssignment& r,
                CudaStream stream) {
  constexpr int kRows = kThreads / kWarpThreads;
  choose_kernel<<<(rows + kRows - 1) / kRows, kThreads, 0, stream>>>(logits, rows, experts, top_k,
                                                                     r);
  constexpr int kMaxCounts = 48 * 1024 / sizeof(int32_t);
  const int pairs = rows * top_k;
  const int warps = std::clamp((pairs + kWarpThreads - 1) / kWarpThreads, 1,
                               std::min(kSortThreads / kWarpThreads, kMaxCounts / experts));
  sort_kernel<<<1, warps * kWarpThreads, warps * experts * sizeof(int32_t), stream>>>(
      pairs, experts, top_k, r);
}

void combine_experts(const ExpertAssignment& r, int rows, int top_k, const float* down, int hidden,
                     float* x, CudaStream stream) {
  const dim3 grid((hidden + kThreads - 1) / kThreads, rows);
  combine_kernel<<<grid, kThreads, 0, stream>>>(r, top_k, down, hidden, x);
}

}  // namespace mxgpt::cuda
