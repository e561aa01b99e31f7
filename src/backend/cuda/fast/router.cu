// The router for many rows: few outputs of long sums, in f32. A block has some rows, a warp its
// part of the columns, a lane an expert.
#include "backend/cuda/fast/decode.h"
#include "backend/cuda/fast/launch.cuh"

namespace mxgpt::cuda::fast {
namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps, kRows = 16;

__global__ void __launch_bounds__(kThreads) scores_kernel(RouterScores p) {
  __shared__ float parts[kWarps][kRows][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first_row = blockIdx.x * kRows, expert = blockIdx.y * 32 + lane;
  const auto* const weight =
      reinterpret_cast<const float4*>(p.weight + int64_t{min(expert, p.experts - 1)} * p.hidden);
  const float4* x[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i)
    x[i] =
        reinterpret_cast<const float4*>(p.x + int64_t{min(first_row + i, p.rows - 1)} * p.hidden);
  float sum[kRows] = {};
  const int fours = p.hidden / 4, end = fours * (warp + 1) / kWarps;
#pragma unroll 2
  for (int at = fours * warp / kWarps; at < end; ++at) {
    const float4 w = weight[at];
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const float4 v = x[i][at];
      sum[i] = fmaf(v.w, w.w, fmaf(v.z, w.z, fmaf(v.y, w.y, fmaf(v.x, w.x, sum[i]))));
    }
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) parts[warp][i][lane] = sum[i];
  __syncthreads();
  for (int i = warp; i < kRows; i += kWarps) {
    if (first_row + i >= p.rows || expert >= p.experts) continue;
    float score = p.bias[expert];
#pragma unroll
    for (int part = 0; part < kWarps; ++part) score += parts[part][i][lane];
    p.scores[int64_t{first_row + i} * p.experts + expert] = score;
  }
}

}  // namespace

void router_scores(const RouterScores& p, CUstream_st* stream) {
  scores_kernel<<<dim3((p.rows + kRows - 1) / kRows, (p.experts + 31) / 32), kThreads, 0, stream>>>(
      p);
}

}  // namespace mxgpt::cuda::fast
