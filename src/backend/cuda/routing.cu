// Mixture of experts: who goes where, and what comes back.
#include <climits>

#include "backend/cuda/kernels.h"

namespace mxgpt::cuda {
namespace {

constexpr int kThreads = 256, kSortThreads = 1024, kWarpThreads = 32;

/// Ordered as the scores are, NaN above all: who chooses it gets it.
__device__ uint32_t ordered(float score) {
  if (score != score) return ~0u;
  const uint32_t bits = __float_as_uint(score + 0.0f);  // without the zero's sign
  return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

/// A warp a row: one best after the other, of equals the lower expert first.
__global__ void __launch_bounds__(kThreads)
    choose_kernel(const float* logits, int rows, int experts, int top_k, Routing r) {
  const int row = (blockIdx.x * kThreads + threadIdx.x) / kWarpThreads;
  const int lane = threadIdx.x % kWarpThreads;
  if (row >= rows) return;
  const float* mine = logits + static_cast<int64_t>(row) * experts;
  int32_t* expert = r.expert + row * top_k;
  float* weight = r.weight + row * top_k;
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

/// One block, a warp an expert. An expert's pairs stay in the order of the rows.
__global__ void __launch_bounds__(kSortThreads)
    sort_kernel(int pairs, int experts, int top_k, Routing r) {
  const int lane = threadIdx.x % kWarpThreads, warp = threadIdx.x / kWarpThreads;
  constexpr int kWarps = kSortThreads / kWarpThreads;
  for (int e = warp; e < experts; e += kWarps) {
    int count = 0;
#pragma unroll 8
    for (int i = lane; i < pairs; i += kWarpThreads) count += r.expert[i] == e;
    count = __reduce_add_sync(~0u, count);
    if (lane == 0) r.begin[e + 1] = count;
  }
  __syncthreads();
  if (warp == 0) {
    int before = 0;
    if (lane == 0) r.begin[0] = 0;
    for (int first = 0; first < experts; first += kWarpThreads) {
      const int e = first + lane;
      int sum = e < experts ? r.begin[e + 1] : 0;
      for (int step = 1; step < kWarpThreads; step *= 2) {
        const int lower = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += lower;
      }
      if (e < experts) r.begin[e + 1] = before + sum;
      before += __shfl_sync(~0u, sum, kWarpThreads - 1);
    }
  }
  __syncthreads();
  for (int e = warp; e < experts; e += kWarps) {
    int pair = r.begin[e];
#pragma unroll 8
    for (int first = 0; first < pairs; first += kWarpThreads) {
      const int i = first + lane;
      const bool own = i < pairs && r.expert[i] == e;
      const unsigned all = __ballot_sync(~0u, own);
      if (own) {
        const int at = pair + __popc(all & ((1u << lane) - 1));
        r.pair_row[at] = i / top_k;
        r.pair_of_choice[i] = at;
      }
      pair += __popc(all);
    }
  }
}

__global__ void combine_kernel(Routing r, int top_k, const float* down, int hidden, float* x) {
  const int row = blockIdx.y, i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= hidden) return;
  float& out = x[static_cast<int64_t>(row) * hidden + i];
  float sum = out;
  for (int s = 0; s < top_k; ++s) {
    const int choice = row * top_k + s;
    sum = fmaf(r.weight[choice], down[static_cast<int64_t>(r.pair_of_choice[choice]) * hidden + i],
               sum);
  }
  out = sum;
}

}  // namespace

void route(const float* logits, int rows, int experts, int top_k, const Routing& r,
           DeviceStream stream) {
  constexpr int kRows = kThreads / kWarpThreads;
  choose_kernel<<<(rows + kRows - 1) / kRows, kThreads, 0, stream>>>(logits, rows, experts, top_k,
                                                                     r);
  sort_kernel<<<1, kSortThreads, 0, stream>>>(rows * top_k, experts, top_k, r);
}

void combine_experts(const Routing& r, int rows, int top_k, const float* down, int hidden, float* x,
                     DeviceStream stream) {
  const dim3 grid((hidden + kThreads - 1) / kThreads, rows);
  combine_kernel<<<grid, kThreads, 0, stream>>>(r, top_k, down, hidden, x);
}

}  // namespace mxgpt::cuda
