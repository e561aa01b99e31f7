// Sums and maxima over a thread block, in a fixed order.
#pragma once

namespace mxgpt::cuda {

inline constexpr int kWarp = 32;

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) v += __shfl_xor_sync(~0u, v, step);
  return v;
}

__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(~0u, v, step));
  return v;
}

/// Called by every thread of the block; all get the sum.
template <int kThreads>
__device__ float block_sum(float v) {
  __shared__ float of_warp[kThreads / kWarp];
  v = warp_sum(v);
  __syncthreads();  // protects a previous call
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = v;
  __syncthreads();
  float total = 0;
#pragma unroll
  for (int i = 0; i < kThreads / kWarp; ++i) total += of_warp[i];
  return total;
}

}  // namespace mxgpt::cuda
