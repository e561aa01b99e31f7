// Device memory of the generic backend. The same layout code measures and allocates, so memory is
// planned without a GPU.
#pragma once

#include <cstdint>

#include "backend/backend.h"
#include "backend/cuda/device.h"

namespace mxgpt::cuda {

/// Experts selected per row, and the selections ("pairs") sorted by expert.
struct ExpertAssignment {
  int32_t* topk_ids;             ///< [rows, top_k], best first
  float* topk_weights;           ///< [rows, top_k]
  int32_t* expert_offsets;       ///< [experts + 1]: first pair of each expert
  int32_t* sorted_token_ids;     ///< [pairs]: row of x
  int32_t* inverse_permutation;  ///< [rows, top_k]: pair of each selection
};

/// Attention states of KV splits at fixed positions, so that a row is summed in one order however
/// many blocks share its work (Milakov & Gimelshein 2018).
struct KvSplitStates {
  float* max_score;      ///< [rows, heads, splits] largest score m
  float* sum_exp;        ///< [rows, heads, splits] Σ exp(score - m)
  float* out;            ///< [rows, heads, splits, head_dim] Σ exp(score - m) · value
  int64_t capacity = 0;  ///< limit of rows · heads · splits
};

/// Buffers of attention that every CUDA backend has.
struct AttentionWorkspace {
  AttentionWorkspace(const backend::MaxShapes& max_shapes, DeviceArena& arena);

  float *q, *attn_out;  ///< [rows, heads, head_dim]
  float* kv_proj[2];    ///< [rows, max_linear_width]: k, v; projections
  KvSplitStates splits;
};

/// Buffers of mixture-of-experts routing that every CUDA backend has.
struct RoutingWorkspace {
  RoutingWorkspace(const backend::MaxShapes& max_shapes, DeviceArena& arena);

  float* router_logits;  ///< [rows, experts]
  ExpertAssignment assignment;
};

struct GenericWorkspace {
  /// The arena may only count.
  GenericWorkspace(const backend::MaxShapes& max_shapes, DeviceArena& arena);

  AttentionWorkspace attention;
  RoutingWorkspace routing;
  float* normed;            ///< [rows, hidden]
  float *gate, *up, *down;  ///< [mlp_rows, intermediate] twice, [mlp_rows, hidden]
};

}  // namespace mxgpt::cuda
