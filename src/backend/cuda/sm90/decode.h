// Decode kernels of a gpt-oss layer for up to kMaxRows rows, and the logits; see docs/cuda.md.
// Launchers enqueue with programmatic dependent launch, and neither allocate nor synchronize. Sums
// have a fixed order: a row's result does not depend on the rest of the batch.
// Pointers are device memory, activations f32, rows contiguous.
#pragma once

#include "backend/cuda/sm90/layout.h"

struct CUstream_st;

namespace mxgpt::cuda::sm90 {

/// Whether the current GPU runs these kernels: bulk copies (sm_90) and 227 KiB of shared memory per
/// block. attn_prefill and the mma GEMM run on sm_80 and newer.
bool is_supported_here();

inline constexpr int kMaxRows = 8;  ///< of qkv, o_proj and logits
inline constexpr int kMaxExperts = 128;
inline constexpr int kMaxTopK = 4;
inline constexpr int kHeadDim = 64, kGqaGroup = 8;  ///< query heads per KV head

struct RmsNorm {
  const float* weight = nullptr;  ///< [k]; null: no norm
  float eps = 1e-5f;
};

/// KV cache of a layer: [page][kv_head][32][64] in f16 or bf16. Tokens that were never stored must
/// be finite: whole pages are multiplied, with weight 0 for those.
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

/// q, k, v = linear(norm(x)), rotated (NeoX); keys and values are stored in the cache.
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

/// Router fused into o_proj, whose blocks leave partial scores of their columns of x:
/// score[expert] = bias + rms_scale · Σ parts[row][part][expert]; parts[row][part][experts] is the
/// partial Σ x².
struct Router {
  const float* weight;  ///< [experts, hidden] f32
  const float* bias;    ///< [experts]
  const float* norm;    ///< [hidden]: weight of the norm before the router
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

/// x += in · weightᵀ + bias, and the partial router scores of the new x.
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

/// Experts selected for a row.
struct TopKResult {
  int expert[kMaxTopK];
  float weight[kMaxTopK];  ///< softmax over the selected
  float rms_scale;         ///< of the norm before the router
};

/// Gate and up of one row's experts: activated[slot] = swiglu(gate, up), as the split-bf16 operand
/// of `down`.
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

/// x += Σ weight · (down · activated + bias) over slots, in descending order of weight. Must
/// directly follow gate_up: it reads the routing while that kernel is still running.
struct Down {
  const uint8_t* activated;
  Router router;
  const float* router_parts;
  PackedWeight down;
  const float* bias;  ///< [experts][hidden]
  float* x;
};
void down(const Down& p, CUstream_st* stream);

/// gate_up and down for a few rows, in four kernels that read each selected expert once.
/// Bit-identical to processing each row alone.
struct MoeSmallBatch {
  float* x;  ///< [rows, hidden]
  int rows;
  Router router;
  const float* router_parts;
  PackedWeight gate, up, down;                   ///< MXFP4, by expert
  const float *gate_bias, *up_bias, *down_bias;  ///< [experts][rows of it]
  Swiglu swiglu;
  /// Buffers passed from kernel to kernel.
  struct Scratch {
    TopKResult* chosen;  ///< [rows]
    uint8_t* normed;     ///< [rows][2] planes
    uint8_t* activated;  ///< activated_bytes(…) per row; starts as zero
    float* outs;         ///< [rows][top_k][hidden]
  } scratch;
};
constexpr size_t normed_bytes(int rows, int hidden) {
  const PackedWeight of_gate{nullptr, WeightType::mxfp4, 0, hidden};
  return size_t{1} * rows * 2 * plane_stride(WeightType::mxfp4, of_gate.pairs());
}
/// Whether the operands of this many rows fit in shared memory.
bool moe_small_batch_fits(const MoeSmallBatch& p);
void moe_small_batch(const MoeSmallBatch& p, CUstream_st* stream);

/// logits[i] = head · norm(x[i])
struct Logits {
  const float* x;
  RmsNorm norm;
  PackedWeight head;
  int rows;
  float* logits;  ///< [rows, head.rows]
};
void logits(const Logits& p, CUstream_st* stream);

/// Grouped-query attention of each row to its sequence's pages: eight query heads of 64 dimensions
/// per KV head. Splits of fixed length are computed independently and merged in order.
struct AttentionArgs {
  const float* q;  ///< [rows, 8 · kv_heads, 64]
  int rows;
  int step_rows;  ///< rows of the step, whose keys may have just been stored
  int kv_heads;
  float scale;
  KvPages kv;
  RowCoords coords;
  int window = 0;           ///< 0: everything
  const float* sinks;       ///< [8 · kv_heads], or null
  int pages_per_split;      ///< split length, a function of the longest context alone
  int max_splits;           ///< upper bound per row
  float* scratch;           ///< attend_scratch_floats(…)
  int32_t* split_counters;  ///< [rows][kv_heads], zero; left zero
  float* out;               ///< [rows, 8 · kv_heads, 64]
};
constexpr size_t attend_scratch_floats(int rows, int kv_heads, int max_pieces) {
  return size_t{1} * rows * kv_heads * kGqaGroup * max_pieces * (kHeadDim + 2);
}
void attn_decode(const AttentionArgs& p, CUstream_st* stream);
/// For prompts: many adjacent rows per sequence. Queries and softmax weights are rounded to the
/// cache's format. Uses neither scratch nor splits.
void attn_prefill(const AttentionArgs& p, CUstream_st* stream);

}  // namespace mxgpt::cuda::sm90
