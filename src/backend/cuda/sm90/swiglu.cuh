// The clamped SwiGLU of gpt-oss.
#pragma once

#include "backend/cuda/sm90/decode.h"
#include "backend/cuda/sm90/ptx.cuh"

namespace mxgpt::cuda::sm90 {

/// openai/gpt-oss, gpt_oss/torch/model.py, swiglu.
__device__ inline float swiglu(float gate, float up, const Swiglu& s) {
  // A comparison that NaN passes through, unlike fminf.
  gate = gate > s.limit ? s.limit : gate;
  up = up > s.limit ? s.limit : up < -s.limit ? -s.limit : up;
  return (up + 1) * gate / (1 + __expf(-s.alpha * gate));
}

}  // namespace mxgpt::cuda::sm90
