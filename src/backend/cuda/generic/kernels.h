// The CUDA backend's kernels besides those of backend/cuda/generic/gemm.h, launched. Each takes one
// plain struct; pointers are to the GPU's memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cuda/generic/gemm.h"
#include "backend/cuda/generic/workspace.h"
#include "backend/ops.h"

namespace mxgpt::cuda {

/// out[i] = norm(x[ids[i]]), or added to what out holds.
struct NormRows {
  backend::Norm norm;
  const float* x;                        ///< [.][n]
  const int32_t* row_indices = nullptr;  ///< [rows]; null: 0, 1, 2…
  int rows;
  float* out;  ///< [rows][n]
  bool add = false;
};
void norm_rows(const NormRows&, CudaStream);

struct RopeCosSinParams {
  const float* inv_freq;  ///< [half]
  float magnitude;
  int half;
  const int32_t* positions;  ///< [rows]
  int rows;
  float *cos, *sin;  ///< [rows, half]
};
void compute_rope_cos_sin(const RopeCosSinParams&, CudaStream);

/// After the projections: every head of q and k normed and rotated, k and v stored.
struct QkNormRopeStoreKv {
  float *q, *k, *v;  ///< [rows, heads or kv_heads, head_dim]
  backend::Norm q_norm, k_norm;
  int rows, heads, kv_heads, head_dim;
  backend::RopeStyle rope_style;
  const float *cos, *sin;  ///< [rows, head_dim / 2], or null
  backend::KvLayer kv;
  const int32_t *positions, *slots;  ///< [rows]
  const int32_t* table;              ///< [slots, stride]
  int64_t stride;
};
void qk_norm_rope_store_kv(const QkNormRopeStoreKv&, CudaStream);

struct PagedAttention {
  backend::Attention op;
  int rows;
  const int32_t *positions, *slots;  ///< [rows]
  const int32_t* table;              ///< [slots, stride]
  int64_t stride;
  KvSplitStates splits;
};
/// Positions a piece has; a piece begins at a multiple.
inline constexpr int kKvSplitTokens = 256;
inline constexpr int kMaxHeadDim = 512;
/// `last` is the largest position of a row.
void paged_attention(const PagedAttention&, int64_t last, CudaStream);

/// gate[i] = act(gate[i]) · up[i], or act(gate[i]) where `up` is null.
void activate(const backend::Activation& activation, float* gate, const float* up, int64_t n,
              CudaStream);

/// Routing of rows by their router's logits [rows, experts].
void route_topk(const float* logits, int rows, int experts, int top_k, const ExpertAssignment&,
                CudaStream);

/// x[row] += Σ weight · down[pair], in the order of the choices.
void combine_experts(const ExpertAssignment&, int rows, int top_k, const float* down, int hidden,
                     float* x, CudaStream);

}  // namespace mxgpt::cuda
