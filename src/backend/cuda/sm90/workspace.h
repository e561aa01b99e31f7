// Device memory of the sm90 backend, laid out like generic/workspace.h.
#pragma once

#include <cstdint>

#include "backend/cuda/generic/workspace.h"
#include "backend/cuda/sm90/decode.h"

namespace mxgpt::cuda::sm90 {

struct Workspace {
  /// The arena may only count.
  Workspace(const backend::MaxShapes& max_shapes, DeviceArena& arena);

  AttentionWorkspace attention;
  RoutingWorkspace routing;
  uint16_t* moe_activated;     ///< [pairs][gemm_columns], within [pairs][intermediate] floats
  float* down;                 ///< [pairs, hidden]
  uint16_t* bf16_activations;  ///< operand of gemm()
  MoeSmallBatch::Scratch moe_scratch;  ///< kMaxRows rows; `activated` starts as zero
  int64_t activated_bytes;
  int pages_per_split = 8;  ///< of attn_decode
  float* attn_scratch;      ///< attend_scratch_floats(…)
  int64_t attn_scratch_floats;
  int32_t* split_counters;  ///< [rows of attn_decode, KV heads], zero between blocks
  int64_t split_counter_count;
};

}  // namespace mxgpt::cuda::sm90
