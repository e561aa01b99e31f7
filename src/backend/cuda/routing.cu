// Mixture of experts: who goes where, and what comes back.
#include "backend/cuda/kernels.h"

namespace mxgpt::cuda {
namespace {

constexpr int kThreads = 256, kSortThreads = 1024;

/// One thread a row. Insertion keeps the best top_k in descending order; of equals the lower expert
/// comes first.
__global__ void choose_kernel(const float* logits, int rows, int experts, int top_k, Routing r) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  const float* mine = logits + static_cast<int64_t>(row) * experts;
  int32_t* expert = r.expert + row * top_k;
  float* weight = r.weight + row * top_k;
  int count = 0;
  for (int e = 0; e < experts; ++e) {
    const float logit = mine[e];
    if (count == top_k && !(logit > weight[count - 1])) continue;
    int place = count < top_k ? count++ : count - 1;
    for (; place > 0 && logit > weight[place - 1]; --place) {
      weight[place] = weight[place - 1];
      expert[place] = expert[place - 1];
    }
    weight[place] = logit;
    expert[place] = e;
  }
  const float best = weight[0];
  float total = 0;
  for (int s = 0; s < top_k; ++s) total += weight[s] = expf(weight[s] - best);
  for (int s = 0; s < top_k; ++s) weight[s] /= total;
}

/// One block. An expert's pairs stay in the order of the rows.
__global__ void __launch_bounds__(kSortThreads)
    sort_kernel(int pairs, int experts, int top_k, Routing r) {
  for (int e = threadIdx.x; e < experts; e += kSortThreads) {
    int count = 0;
    for (int i = 0; i < pairs; ++i) count += r.expert[i] == e;
    r.begin[e + 1] = count;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    r.begin[0] = 0;
    for (int e = 0; e < experts; ++e) r.begin[e + 1] += r.begin[e];
  }
  __syncthreads();
  for (int e = threadIdx.x; e < experts; e += kSortThreads) {
    int pair = r.begin[e];
    for (int i = 0; i < pairs; ++i) {
      if (r.expert[i] != e) continue;
      r.pair_row[pair] = i / top_k;
      r.pair_of_choice[i] = pair++;
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
  choose_kernel<<<(rows + 31) / 32, 32, 0, stream>>>(logits, rows, experts, top_k, r);
  sort_kernel<<<1, kSortThreads, 0, stream>>>(rows * top_k, experts, top_k, r);
}

void combine_experts(const Routing& r, int rows, int top_k, const float* down, int hidden, float* x,
                     DeviceStream stream) {
  const dim3 grid((hidden + kThreads - 1) / kThreads, rows);
  combine_kernel<<<grid, kThreads, 0, stream>>>(r, top_k, down, hidden, x);
}

}  // namespace mxgpt::cuda
