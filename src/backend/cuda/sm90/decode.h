// One row's way through a layer in five kernels, and the logits; see docs/cuda.md. Kernels take one
// plain struct, are enqueued with programmatic dependent launch, neither allocate nor synchronize,
// and sum in fixed order: a row's result depends on nothing else in the batch.
// All pointers are device memory. Activations are f32; rows are contiguous.
#pragma once

#include "backend/cuda/sm90/layout.h"

struct CUstream_st;

namespace mxgpt::cuda::sm90 {

/// Whether the current GPU has what these kernels are written for: Hopper's copies (sm_90) and its
/// 227 KiB of shared memory a block. attend_rows and gemm.h run from sm_80 on.
bool is_supported_here();

inline constexpr int kMaxRows = 8;  ///< of qkv, project and logits
inline constexpr int kMaxExperts = 128;
inline constexpr int kMaxTopK = 4;
inline constexpr int kHeadDim = 64, kGqaGroup = 8;  ///< query heads that share a key head

struct RmsNorm {
  const float* weight = nullptr;  ///< [k]; null: no norm
  float eps = 1e-5f;
};

/// Where a layer's keys and values lie: [page][kv_head][32][64] of 16-bit floats. What was never
/// stored must be finite: whole pages are multiplied, with weights of 0.
struct KvPages {
  void* keys;
  void* values;
  bool bf16;             ///< else f16
  const int32_t* table;  ///< [sequence][stride]: page of position / 32
  int64_t stride;
};

struct RowCoords {
  const int32_t* positions;  ///< [rows]
  const int32_t* sequences;  ///< [rows]
};

/// Heads have 64 dimensions, whose halves are rotated.
struct Qkv {
  const float* x;  ///< [rows, k]
  RmsNorm norm;
  PackedWeight q, k, v;                   ///< q and k in RowOrder::rope_halves_64
  const float *q_bias, *k_bias, *v_bias;  ///< or null
  const float *cos, *sin;                 ///< [rows, 32]
  int rows, kv_heads;
  RowCoords coords;
  KvPages kv;
  float* q_out;  ///< [rows, q.rows]
};
void qkv(const Qkv& p, CUstream_st* stream);

/// The router behind a norm. Its scores come in the parts that the blocks of `project` know of x:
/// score[expert] = bias + rms_scale · Σ parts[row][part][expert]; parts[row][part][experts] has Σ
/// x².
struct Router {
  const float* weight;  ///< [experts, hidden] f32
  const float* bias;    ///< [experts]
  const float* norm;    ///< [hidden]: of the norm between x and the router
  float eps;
  int experts = 0;  ///< 0: no router follows
  int top_k;
  int parts;  ///< router_parts()
};
int router_parts();
/// Floats of [rows][parts][experts + 1 and more].
constexpr size_t router_part_floats(int rows, int experts, int parts) {
  return size_t{1} * rows * parts * align_up(experts + 1, 4);
}

/// x += in · weightᵀ + bias, and the router's parts of the new x.
struct OProj {
  const float* in;  ///< [rows, weight.k]
  PackedWeight weight;
  const float* bias;  ///< or null
  float* x;           ///< [rows, weight.rows]
  int rows;
  Router router;
  float* router_parts;  ///< router_part_floats(…)
};
void o_proj(const OProj& p, CUstream_st* stream);

struct Swiglu {
  float alpha, limit;
};

/// What a row's router says.
struct TopKResult {
  int expert[kMaxTopK];
  float weight[kMaxTopK];  ///< softmax over the chosen
  float rms_scale;         ///< of the norm before
};

/// The chosen experts' gate and up for one row: activated[slot] = swiglu(gate, up) as an operand of
/// `down` (planes of bfloat16 hi and lo).
struct GateUp {
  const float* x;  ///< [k]
  Router router;
  const float* router_parts;
  PackedWeight gate, up;             ///< MXFP4, by expert
  const float *gate_bias, *up_bias;  ///< [experts][rows]
  Swiglu swiglu;
  uint8_t* activated;  ///< activated_bytes(…), zero where never written
};
constexpr size_t activated_bytes(int intermediate) {
  const PackedWeight of_down{nullptr, WeightType::mxfp4, 0, intermediate};
  return size_t{1} * kMaxTopK * 2 * plane_stride(WeightType::mxfp4, of_down.pairs());
}
void gate_up(const GateUp& p, CUstream_st* stream);

/// x += Σ over slots, in the order of the router's choice, of weight · (down · activated + bias).
/// Must follow gate_up without a kernel between: it reads the routing while that still runs.
struct Down {
  const uint8_t* activated;
  Router router;
  const float* router_parts;
  PackedWeight down;
  const float* bias;  ///< [experts][hidden]
  float* x;
};
void down(const Down& p, CUstream_st* stream);

/// gate_up and down for a few rows, in four kernels that read every chosen expert once. A row gets
/// the bits that it would have alone.
struct MoeSmallBatch {
  float* x;  ///< [rows, hidden]
  int rows;
  Router router;
  const float* router_parts;
  PackedWeight gate, up, down;                   ///< MXFP4, by expert
  const float *gate_bias, *up_bias, *down_bias;  ///< [experts][rows of it]
  Swiglu swiglu;
  /// What one kernel leaves to the next.
  struct Scratch {
    TopKResult* chosen;  ///< [rows]
    uint8_t* normed;     ///< [rows][2] planes
    uint8_t* activated;  ///< activated_bytes(…) a row, zero where never written
    float* outs;         ///< [rows][top_k][hidden]
  } scratch;
};
constexpr size_t normed_bytes(int rows, int hidden) {
  const PackedWeight of_gate{nullptr, WeightType::mxfp4, 0, hidden};
  return size_t{1} * rows * 2 * plane_stride(WeightType::mxfp4, of_gate.pairs());
}
/// Whether the operands of so many rows fit into a multiprocessor's shared memory.
bool moe_small_batch_fits(const MoeSmallBatch& p);
void moe_small_batch(const MoeSmallBatch& p, CUstream_st* stream);

/// logits[i] = head · norm(x[row_of[i]])
struct Logits {
  const float* x;
  RmsNorm norm;
  PackedWeight head;
  int rows;
  float* logits;  ///< [rows, head.rows]
};
void logits(const Logits& p, CUstream_st* stream);

/// Grouped-query attention of each row to its sequence's pages, eight query heads of 64 dimensions
/// to a key head. Pieces of fixed length are attended to by themselves and merged in order.
struct AttentionArgs {
  const float* q;  ///< [rows, 8 · kv_heads, 64]
  int rows;
  int step_rows;  ///< of which these are part: so many keys may only just have been stored
  int kv_heads;
  float scale;
  KvPages kv;
  RowCoords coords;
  int window = 0;           ///< 0: everything
  const float* sinks;       ///< [8 · kv_heads], or null
  int pages_per_split;      ///< pages of a piece: a function of the longest context alone
  int max_splits;           ///< that a row can have
  float* scratch;           ///< attend_scratch_floats(…)
  int32_t* split_counters;  ///< [rows][kv_heads], zero; left zero
  float* out;               ///< [rows, 8 · kv_heads, 64]
};
constexpr size_t attend_scratch_floats(int rows, int kv_heads, int max_pieces) {
  return size_t{1} * rows * kv_heads * kGqaGroup * max_pieces * (kHeadDim + 2);
}
void attn_decode(const AttentionArgs& p, CUstream_st* stream);
/// For prompts: many rows of a sequence, adjacent and at consecutive positions; queries and weights
/// rounded to the cache's format. Needs neither scratch nor pieces.
void attn_prefill(const AttentionArgs& p, CUstream_st* stream);

}  // namespace mxgpt::cuda::sm90
