// GEMM and embedding lookup on the GPU for every tensor format; gemm.cuh has the kernels. Pointers
// are to device memory. Builds without CUDA do not define these functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/accum_type.h"
#include "quant/format.h"

/// cudaStream_t, without CUDA's headers.
struct CUstream_st;

namespace mxgpt::cuda {

using CudaStream = CUstream_st*;

/// out[token][row] = x · Wᵀ + bias, for one matrix, or grouped: one matrix per expert with its own
/// tokens. The order of sums is fixed. The groups of 32 of a row are divided into kSplitK splits of
/// equal size; elements are summed in the order of k within a split, then the splits in order.
struct GemmParams {
  static constexpr int kSplitK = 16;

  const std::byte* weights;  ///< [num_experts][rows][k]
  int64_t row_bytes;
  int num_experts = 1;
  int rows, k;
  const float* x;                        ///< [.][k]
  const int32_t* row_indices = nullptr;  ///< [tokens]: row of x per token; null: 0, 1, 2…
  /// [num_experts + 1]: expert e has tokens expert_offsets[e] … expert_offsets[e + 1] - 1. Null: a
  /// single expert has all tokens.
  const int32_t* expert_offsets = nullptr;
  int max_tokens;               ///< upper bound per expert
  const float* bias = nullptr;  ///< [num_experts][rows]
  float* out;                   ///< [all tokens][rows]
  bool add_to_out = false;      ///< add the result to `out`
  kernels::AccumType accum_type = kernels::AccumType::f32;
};

/// out[i] = scale · table[ids[i]], or added to out[i].
struct EmbeddingParams {
  const std::byte* table;  ///< [.][k]
  int64_t row_bytes;
  int k;
  const int32_t* ids;  ///< [count]
  int count;
  float scale = 1;
  float* out;  ///< [count][k]
  bool add_to_out = false;
};

struct FormatKernels {
  /// For few tokens per expert: reads and decodes each weight once for up to eight tokens.
  void (*gemv)(const GemmParams&, CudaStream);
  /// For many tokens per expert: tiles of 64 × 64. Bit-identical to gemv.
  void (*gemm)(const GemmParams&, CudaStream);
  void (*embed)(const EmbeddingParams&, CudaStream);
};

const FormatKernels& format_kernels(quant::Format format);

}  // namespace mxgpt::cuda
