// What follows gate and up.
#pragma once

#include "backend/cuda/fast/decode.h"
#include "backend/cuda/fast/device.cuh"

namespace mxgpt::cuda::fast {

/// openai/gpt-oss, gpt_oss/torch/model.py, swiglu.
__device__ inline float swiglu(float gate, float up, const Swiglu& s) {
  // A comparison that NaN passes through, unlike fminf.
  gate = gate > s.limit ? s.limit : gate;
  up = up > s.limit ? s.limit : up < -s.limit ? -s.limit : up;
  return (up + 1) * gate / (1 + __expf(-s.alpha * gate));
}

/// One element of an operand of `down`: planes of bfloat16 hi and lo, `stride` bytes apart.
__device__ inline void store_activated(uint8_t* planes, int stride, int element, float v) {
  auto* const plane = reinterpret_cast<__nv_bfloat16*>(planes);
  const __nv_bfloat16 hi = __float2bfloat16(v);
  plane[element] = hi;
  plane[stride / 2 + element] = __float2bfloat16(v - __bfloat162float(hi));
}

}  // namespace mxgpt::cuda::fast
