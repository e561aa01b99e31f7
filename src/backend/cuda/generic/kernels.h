// Launchers of the portable kernels other than GEMM (gemm.h). Pointers are to device memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cuda/generic/gemm.h"
#include "backend/cuda/generic/workspace.h"
#include "backend/ops.h"

namespace mxgpt::cuda {

/// out[i] = norm(x[row_indices[i]]), or added to out[i].
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

/// Norms and rotates the heads of q and k, and stores k and v in the cache.
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
/// Positions per KV split. Splits start at its multiples.
inline constexpr int kKvSplitTokens = 256;
inline constexpr int kMaxHeadDim = 512;
/// `last`: the largest position of any row, or an upper bound.
void paged_attention(const PagedAttention&, int64_t last, CudaStream);

/// gate[i] = act(gate[i]) · up[i], or act(gate[i]) where `up` is null.
void activate(const backend::Activation& activation, float* gate, const float* up, int64_t n,
              CudaStream);

/// Selects the top_k experts of each row by the router's logits [rows, experts], and sorts the
/// pairs.
void route_topk(const float* logits, int rows, int experts, int top_k, const ExpertAssignment&,
                CudaStream);

/// x[row] += Σ weight · down[pair], in descending order of weight.
void combine_experts(const ExpertAssignment&, int rows, int top_k, const float* down, int hidden,
                     float* x, CudaStream);

}  // namespace mxgpt::cuda
