// What a GPU computes with a tensor format: the kernels of device.cuh, launched. Pointers are to
// device memory. In builds without CUDA nothing defines these.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/accum_type.h"
#include "quant/format.h"

/// CUDA's stream, so that headers need none of CUDA's.
struct CUstream_st;

namespace mxgpt::cuda {

using CudaStream = CUstream_st*;

/// out[token][row] = x · Wᵀ + bias, of one matrix or of many that each have tokens of their own.
/// One result is summed in one order, whatever else is computed with it: the groups of 32 of a row
/// in kPieces pieces of as many groups each, the elements of a piece in the order of k, then the
/// pieces.
struct GemmParams {
  static constexpr int kSplitK = 16;

  const std::byte* weights;  ///< [slices][rows][k]
  int64_t row_bytes;
  int num_experts = 1;
  int rows, k;
  const float* x;                           ///< [.][k]
  const int32_t* row_indices = nullptr;     ///< row of x for each token; null: 0, 1, 2…
  const int32_t* expert_offsets = nullptr;  ///< [slices + 1]: slice s has tokens begin[s] … begin[s
                                            ///< + 1] - 1; null: one slice has them all
  int max_tokens;               ///< the most that a slice can have
  const float* bias = nullptr;  ///< [slices][rows]
  float* out;                   ///< [all tokens][rows]
  bool add_to_out = false;      ///< to what out holds
  kernels::AccumType accum_type = kernels::AccumType::f32;
};

/// out[i] = scale · table[ids[i]], or added to what out holds.
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
  /// Few tokens a slice: each weight is read and decoded once for up to eight.
  void (*gemv)(const GemmParams&, CudaStream);
  /// Many tokens a slice: tiles of 64 × 64. The same results, bit for bit.
  void (*gemm)(const GemmParams&, CudaStream);
  void (*embed)(const EmbeddingParams&, CudaStream);
};

const FormatKernels& format_kernels(quant::Format format);

}  // namespace mxgpt::cuda
