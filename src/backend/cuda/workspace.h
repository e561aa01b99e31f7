// The memory of the CUDA backend's own, besides weights and cache: planned and taken by the same
// code, which needs no GPU.
#pragma once

#include <cstdint>

#include "backend/batch.h"
#include "backend/cuda/device.h"
#include "backend/cuda/sm90/decode.h"
#include "backend/cuda/weight_repack.h"

namespace mxgpt::cuda {

/// The most a step of one model asks for.
struct MaxShapes {
  int64_t rows = 0;                       ///< of a batch
  int64_t sequences = 0;                  ///< of a batch
  int64_t context = 0;                    ///< of a sequence
  int64_t vocabulary = 0, positions = 0;  ///< tokens and learned positions there are; 0: any
  int64_t hidden = 0;
  int64_t max_linear_width = 0;  ///< longest row that a linear outside the MLP reads or, but for
                                 ///< the head, writes
  int64_t intermediate = 0;
  int64_t experts = 0, top_k = 0;  ///< 0 for dense models
  int64_t heads = 0, head_dim = 0;

  /// Rows of an MLP's inner activations: a row of the batch has one for each expert it chose.
  int64_t mlp_rows() const { return rows * (experts ? top_k : 1); }
  int64_t pages() const {
    return (context + backend::kPageTokens - 1) / backend::kPageTokens;
  }  ///< of a sequence
};

/// What a row of the batch chose, and the choices sorted by expert: a "pair" is a choice at its
/// place there.
struct ExpertAssignment {
  int32_t* topk_ids;             ///< [rows, top_k], best first
  float* topk_weights;           ///< [rows, top_k]
  int32_t* expert_offsets;       ///< [experts + 1]: where an expert's pairs start
  int32_t* sorted_token_ids;     ///< [pairs]: the row of x
  int32_t* inverse_permutation;  ///< [rows, top_k]
};

/// Attention over pieces of the cache at fixed positions, so that a row is summed in one order
/// however many blocks share the work: the parts that several of them leave.
struct KvSplitStates {
  float* max_score;      ///< [rows, heads, pieces] largest score
  float* sum_exp;        ///< [rows, heads, pieces] Σ exp(score - most)
  float* out;            ///< [rows, heads, pieces, head_dim] Σ exp(score - most) · value
  int64_t capacity = 0;  ///< rows × heads × pieces that there is room for
};

struct Workspace {
  /// From `room`, which may only count. `fast`: for the kernels of fast/ too.
  Workspace(const MaxShapes& limits, DeviceArena& room, const DeviceCaps& target, bool fast);

  int32_t* batch;           ///< the batch's numbers, as one array
  int64_t batch_capacity;   ///< most of them
  float* normed;            ///< [rows, hidden]
  float* kv_proj[2];        ///< [rows, widest]: k and v; projections
  float *gate, *up, *down;  ///< [mlp_rows, intermediate] twice, [mlp_rows, hidden]
  float* router_logits;     ///< [rows, experts]
  ExpertAssignment assignment;
  KvSplitStates splits;

  // Of the fast kernels.
  uint16_t* bf16_activations = nullptr;  ///< activations as fast::gemm reads them
  int pages_per_split = 8;               ///< of fast::attend
  float* router_parts = nullptr;         ///< as of fast::router_part_floats
  sm90::MoeSmallBatch::Scratch moe_scratch =
      {};  ///< of kMaxRows rows; `activated` is zero at first
  int64_t activated_bytes = 0;
  float* attend_scratch = nullptr;  ///< fast::attend_scratch_floats
  int64_t attend_scratch_floats = 0;
  int32_t* split_counters =
      nullptr;  ///< [rows that fast::attend takes, key heads], zero between ops
  int64_t split_counter_count = 0;
};

}  // namespace mxgpt::cuda
