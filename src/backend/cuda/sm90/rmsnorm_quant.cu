// RMSNorm with the output rounded to gemm()'s operand format, and the router's logits.
#include <algorithm>

#include "backend/cuda/sm90/gemm.cuh"
#include "backend/cuda/sm90/launch.cuh"

namespace mxgpt::cuda::sm90 {
namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kTogether = 4;  ///< experts per warp

__device__ inline float warp_sum(float v) {
  for (int step = 16; step; step /= 2) v += __shfl_xor_sync(0xffffffff, v, step);
  return v;
}

__global__ void round_kernel(ToBf16 p) {
  const int64_t i = (blockIdx.x * int64_t{blockDim.x} + threadIdx.x) * 4;
  if (i >= p.rows * p.columns) return;
  const int64_t row = i / p.columns;
  const int column = static_cast<int>(i % p.columns);
  float4 v{};
  if (column < p.k) v = *reinterpret_cast<const float4*>(p.in + row * p.k + column);
  store_four(p.out + row * p.columns, column, v, p.permuted);
}

/// Blocks of kRows rows, which lie in shared memory; as many warps a row as there are.
template <int kRows>
__global__ void __launch_bounds__(kThreads) norm_round_kernel(NormToBf16 p) {
  constexpr int kWarpsARow = kWarps / kRows, kStep = 32 * kWarpsARow;
  extern __shared__ float4 normed[];  // [kRows][k / 4]
  __shared__ float squares[kWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first_row = blockIdx.x * kRows, fours = p.k / 4;
  {
    const int i = warp / kWarpsARow, first = threadIdx.x % kStep;
    const int row = min(first_row + i, p.rows - 1);
    const auto* const x =
        reinterpret_cast<const float4*>(p.x + int64_t{p.ids ? p.ids[row] : row} * p.k);
    const auto* const weight = reinterpret_cast<const float4*>(p.norm.weight);
    float4* const own = normed + i * fours;
    float square = 0;
#pragma unroll 8
    for (int at = first; at < fours; at += kStep) {
      const float4 v = x[at];
      own[at] = v;
      square += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    square = warp_sum(square);
    if (lane == 0) squares[warp] = square;
    __syncthreads();
    square = 0;
#pragma unroll
    for (int w = 0; w < kWarpsARow; ++w) square += squares[i * kWarpsARow + w];
    const float scale = rsqrtf(square / static_cast<float>(p.k) + p.norm.eps);
    uint16_t* const out = p.out + int64_t{row} * p.columns;
#pragma unroll 4
    for (int at = first; at < p.columns / 4; at += kStep) {
      float4 v{};
      if (at < fours) {
        const float4 w = weight[at];
        v = own[at];
        v = {v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w};
        own[at] = v;
      }
      if (first_row + i < p.rows) store_four(out, 4 * at, v, p.permuted);
    }
  }
  if (!p.router.scores) return;
  __syncthreads();
  const RouterLogits& r = p.router;
  for (int first = warp * kTogether; first < r.experts; first += kWarps * kTogether) {
    const float4* weight[kTogether];
#pragma unroll
    for (int e = 0; e < kTogether; ++e)
      weight[e] =
          reinterpret_cast<const float4*>(r.weight + int64_t{min(first + e, r.experts - 1)} * p.k);
    float sum[kTogether][kRows] = {};
    constexpr int kUnrolled = kRows == 1 ? 6 : 2;  // few rows wait for the weights
#pragma unroll kUnrolled
    for (int at = lane; at < fours; at += 32) {
      float4 w[kTogether];
#pragma unroll
      for (int e = 0; e < kTogether; ++e) w[e] = weight[e][at];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const float4 v = normed[i * fours + at];
#pragma unroll
        for (int e = 0; e < kTogether; ++e)
          sum[e][i] =
              fmaf(v.w, w[e].w, fmaf(v.z, w[e].z, fmaf(v.y, w[e].y, fmaf(v.x, w[e].x, sum[e][i]))));
      }
    }
#pragma unroll
    for (int e = 0; e < kTogether; ++e)
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const float score = warp_sum(sum[e][i]);
        if (lane == 0 && first + e < r.experts && first_row + i < p.rows)
          r.scores[int64_t{first_row + i} * r.experts + first + e] = score + r.bias[first + e];
      }
  }
}

template <int kRows>
void launch_norm(const NormToBf16& p, CUstream_st* stream) {
  const int bytes = kRows * p.k * static_cast<int>(sizeof(float));
  if (bytes > 48 * 1024)
    cudaFuncSetAttribute(norm_round_kernel<kRows>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         bytes);
  norm_round_kernel<kRows><<<(p.rows + kRows - 1) / kRows, kThreads, bytes, stream>>>(p);
}

}  // namespace

void round_to_bf16(const ToBf16& p, CUstream_st* stream) {
  const int64_t threads = p.rows * p.columns / 4;
  if (threads > 0)
    round_kernel<<<static_cast<unsigned>((threads + 255) / 256), 256, 0, stream>>>(p);
}

void norm_to_bf16(const NormToBf16& p, CUstream_st* stream) {
  // A router's weights are read by every block: many rows share them where they fit.
  constexpr int kMany = 8, kMostBytes = 99 * 1024;  // of a block from sm_86 on
  if (p.rows > 2 * multiprocessors() && kMany * p.k * sizeof(float) <= kMostBytes)
    launch_norm<kMany>(p, stream);
  else
    launch_norm<1>(p, stream);
}

}  // namespace mxgpt::cuda::sm90
