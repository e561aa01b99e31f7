// Expert selection from the partial router scores left by the blocks of o_proj. Each block that
// needs it repeats the selection, which is cheaper than another kernel.
#pragma once

#include "backend/cuda/sm90/decode.h"
#include "backend/cuda/sm90/stream.cuh"

namespace mxgpt::cuda::sm90 {

__host__ __device__ inline constexpr int part_stride(int experts) {
  return align_up(experts + 1, 4);
}
inline constexpr int kRoutingBytes = kWarps * part_stride(kMaxExperts) * 4;

/// Step 1, by the consumer warps: sums[warp][stride], each over its share of the partials. A block
/// barrier must follow.
__device__ inline void gather_parts(const Router& router, const float* parts, float* sums) {
  const int stride = part_stride(router.experts), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float square = 0;
#pragma unroll 1
  for (int i = warp + kWarps * lane; i < router.parts; i += kWarps * 32)
    square += parts[i * stride + router.experts];
#pragma unroll 1
  for (int e = lane; e < router.experts; e += 32) {
    float sum = 0;
#pragma unroll 11
    for (int i = warp; i < router.parts; i += kWarps) sum += parts[i * stride + e];
    sums[warp * stride + e] = sum;
  }
  square = warp_sum(square);
  if (lane == 0) sums[warp * stride + router.experts] = square;
}

/// Step 2, by the producer warp: the top_k best; ties go to the lower index.
/// `kPerLane`: experts / 32, rounded up.
template <int kPerLane>
__device__ inline void choose(const Router& router, const float* sums, int hidden,
                              TopKResult& chosen) {
  const int stride = part_stride(router.experts);
  const int lane = threadIdx.x % 32;
  float score[kPerLane] = {}, square = 0;
#pragma unroll
  for (int g = 0; g < kWarps; ++g) {
    square += sums[g * stride + router.experts];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      if (lane + 32 * i < router.experts) score[i] += sums[g * stride + lane + 32 * i];
  }
  const float rms_scale = rsqrtf(square / static_cast<float>(hidden) + router.eps);
  uint32_t key[kPerLane];  // ordered as the scores, 0: taken or none
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    key[i] = 0;
    if (lane + 32 * i >= router.experts) continue;
    score[i] = score[i] * rms_scale + router.bias[lane + 32 * i];
    const uint32_t u = __float_as_uint(score[i]);
    key[i] = max(u & 0x80000000 ? ~u : u | 0x80000000, 1u);
  }
  float best[kMaxTopK], sum = 0;
  int expert[kMaxTopK];
#pragma unroll
  for (int s = 0; s < kMaxTopK; ++s) {
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) largest = max(largest, key[i]);
    largest = __reduce_max_sync(0xffffffff, largest);
    unsigned index = ~0u;
#pragma unroll
    for (int i = kPerLane - 1; i >= 0; --i)
      if (key[i] == largest) index = lane + 32 * i;
    index = __reduce_min_sync(0xffffffff, index);
    float own = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      if (index == static_cast<unsigned>(lane + 32 * i)) {
        own = score[i];
        key[i] = 0;
      }
    expert[s] = static_cast<int>(index);
    best[s] = __shfl_sync(0xffffffff, own, index % 32);
  }
  if (lane == 0) {
    float weight[kMaxTopK];
#pragma unroll
    for (int s = 0; s < kMaxTopK; ++s) {
      weight[s] = s < router.top_k ? expf(best[s] - best[0]) : 0.f;
      sum += weight[s];
    }
#pragma unroll
    for (int s = 0; s < kMaxTopK; ++s) {
      chosen.expert[s] = min(expert[s], router.experts - 1);
      chosen.weight[s] = weight[s] / sum;
    }
    chosen.rms_scale = rms_scale;
  }
  __syncwarp();
}

}  // namespace mxgpt::cuda::sm90
