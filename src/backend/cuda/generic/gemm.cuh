// GEMM kernels for any format, derived from its definition (quant/block_format.h). The constexpr
// functions `unpack` and `value` of the CPU reference also run on the GPU. Compiled without
// contraction: fused multiply-adds are explicit.
#pragma once

#include <cuda_fp16.h>

#include "backend/cuda/generic/gemm.h"
#include "quant/block_format.h"

namespace mxgpt::cuda {
namespace {

constexpr int kSplitK = GemmParams::kSplitK;

/// A row of a matrix whose blocks are stored as in files. Repacked weights have their own class
/// with the same interface.
template <class F>
class FileLayoutRow {
 public:
  /// Whether rows consist of whole groups.
  static constexpr bool kGroups = quant::QuantizedFormat<F>;

  __device__ FileLayoutRow(const GemmParams& p, int expert, int row)
      : FileLayoutRow(p.weights + (static_cast<int64_t>(expert) * p.rows + row) * p.row_bytes) {}
  __device__ explicit FileLayoutRow(const std::byte* row)
      : blocks_(reinterpret_cast<const typename F::Block*>(row)) {}

  /// Decodes elements at, at + 1, … to f32; zeros past the end of the row.
  __device__ __forceinline__ void decode(int at, int k, float (&w)[quant::kQuantGroup]) const {
    if constexpr (kGroups) {
      quant::UnpackedGroup group;
      F::unpack(blocks_[at / F::kElements], at % F::kElements / quant::kQuantGroup, group);
#pragma unroll
      for (int i = 0; i < quant::kQuantGroup; ++i) w[i] = quant::dequantized_element<F>(group, i);
    } else {
#pragma unroll
      for (int i = 0; i < quant::kQuantGroup; ++i)
        w[i] = at + i < k ? F::value(blocks_[at + i]) : 0.0f;
    }
  }

 private:
  const typename F::Block* blocks_;
};

/// Loads four activations; zeros past the end of the row.
template <class Row>
__device__ __forceinline__ float4 load4(const float* x, int at, int k) {
  if constexpr (Row::kGroups) {
    return *reinterpret_cast<const float4*>(x + at);  // rows of whole groups are aligned
  } else {
    const auto one = [&](int i) { return at + i < k ? x[at + i] : 0.0f; };
    return {one(0), one(1), one(2), one(3)};
  }
}

/// Rounds a running sum to the accumulator's type.
__device__ __forceinline__ float round_accumulator(float sum, kernels::AccumType accumulate) {
  return accumulate == kernels::AccumType::f16 ? __half2float(__float2half_rn(sum)) : sum;
}

__device__ __forceinline__ int group_count(int k) {
  return (k + quant::kQuantGroup - 1) / quant::kQuantGroup;
}
__device__ __forceinline__ int groups_per_split(int k) {
  return (group_count(k) + kSplitK - 1) / kSplitK;
}

struct TokenRange {
  int first, count;
};
__device__ __forceinline__ TokenRange token_range(const GemmParams& p, int expert) {
  if (!p.expert_offsets) return {0, p.max_tokens};
  return {p.expert_offsets[expert], p.expert_offsets[expert + 1] - p.expert_offsets[expert]};
}

__device__ __forceinline__ const float* activation_row(const GemmParams& p, int token) {
  return p.x + static_cast<int64_t>(p.row_indices ? p.row_indices[token] : token) * p.k;
}

__device__ __forceinline__ void store_result(const GemmParams& p, int expert, int token, int row,
                                             float sum) {
  float result = round_accumulator(sum, p.accum_type);
  if (p.bias) result += p.bias[static_cast<int64_t>(expert) * p.rows + row];
  float& out = p.out[static_cast<int64_t>(token) * p.rows + row];
  out = p.add_to_out ? out + result : result;
}

constexpr int kGemvThreads = 256, kGemvRows = kGemvThreads / kSplitK;

/// Each thread sums one split of one row.
template <class Row, int kTokens>
__global__ void __launch_bounds__(kGemvThreads) gemv_kernel(const GemmParams p) {
  const int expert = blockIdx.y, split = threadIdx.x % kSplitK;
  const int row = blockIdx.x * kGemvRows + threadIdx.x / kSplitK;
  const TokenRange tokens = token_range(p, expert);
  const Row weights(p, expert, min(row, p.rows - 1));
  const int length = groups_per_split(p.k) * quant::kQuantGroup;
  const int begin = split * length, end = min(p.k, begin + length);
  for (int t0 = 0; t0 < tokens.count; t0 += kTokens) {
    const float* x[kTokens];
    float sum[kTokens];
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      x[t] = activation_row(p, tokens.first + min(t0 + t, tokens.count - 1));
      sum[t] = 0;
    }
    for (int at = begin; at < end; at += quant::kQuantGroup) {
      float w[quant::kQuantGroup];
      weights.decode(at, p.k, w);
#pragma unroll
      for (int i = 0; i < quant::kQuantGroup; i += 4) {
#pragma unroll
        for (int t = 0; t < kTokens; ++t) {
          const float4 v = load4<Row>(x[t], at + i, p.k);
          sum[t] = fmaf(w[i], v.x, sum[t]);
          sum[t] = fmaf(w[i + 1], v.y, sum[t]);
          sum[t] = fmaf(w[i + 2], v.z, sum[t]);
          sum[t] = fmaf(w[i + 3], v.w, sum[t]);
        }
      }
#pragma unroll
      for (int t = 0; t < kTokens; ++t) sum[t] = round_accumulator(sum[t], p.accum_type);
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      float total = 0;
#pragma unroll
      for (int i = 0; i < kSplitK; ++i) total += __shfl_sync(~0u, sum[t], i, kSplitK);
      if (split == 0 && row < p.rows && t0 + t < tokens.count)
        store_result(p, expert, tokens.first + t0 + t, row, total);
    }
  }
}

constexpr int kTile = 64, kGemmThreads = 256;

/// Each thread sums 4 rows × 4 tokens of a tile, in the same order as gemv_kernel.
template <class Row>
__global__ void __launch_bounds__(kGemmThreads) gemm_kernel(const GemmParams p) {
  constexpr int kPad = 4;  // avoids bank conflicts, keeps 16-byte alignment
  __shared__ __align__(16) float w_tile[quant::kQuantGroup][kTile + kPad],
      x_tile[quant::kQuantGroup][kTile + kPad];
  const int expert = blockIdx.z, row0 = blockIdx.x * kTile, t0 = blockIdx.y * kTile;
  const TokenRange tokens = token_range(p, expert);
  if (t0 >= tokens.count) return;
  const int rows_at = threadIdx.x % 16 * 4, tokens_at = threadIdx.x / 16 * 4;
  const int x_token = threadIdx.x % kTile;
  const float* x = activation_row(p, tokens.first + min(t0 + x_token, tokens.count - 1));
  const Row weights(p, expert, min(row0 + static_cast<int>(threadIdx.x % kTile), p.rows - 1));
  const int groups = group_count(p.k), split = groups_per_split(p.k);
  float total[4][4] = {}, sum[4][4] = {};
  for (int g = 0; g < groups; ++g) {
    const int at = g * quant::kQuantGroup;
    if (threadIdx.x < kTile) {
      float w[quant::kQuantGroup];
      weights.decode(at, p.k, w);
#pragma unroll
      for (int i = 0; i < quant::kQuantGroup; ++i) w_tile[i][threadIdx.x] = w[i];
    }
    for (int i = threadIdx.x / kTile * 4; i < quant::kQuantGroup; i += kGemmThreads / kTile * 4) {
      const float4 v = load4<Row>(x, at + i, p.k);
      x_tile[i][x_token] = v.x;
      x_tile[i + 1][x_token] = v.y;
      x_tile[i + 2][x_token] = v.z;
      x_tile[i + 3][x_token] = v.w;
    }
    __syncthreads();
#pragma unroll 8
    for (int i = 0; i < quant::kQuantGroup; ++i) {
      const float4 w4 = *reinterpret_cast<const float4*>(&w_tile[i][rows_at]);
      const float4 x4 = *reinterpret_cast<const float4*>(&x_tile[i][tokens_at]);
      const float w[4] = {w4.x, w4.y, w4.z, w4.w}, v[4] = {x4.x, x4.y, x4.z, x4.w};
#pragma unroll
      for (int t = 0; t < 4; ++t) {
#pragma unroll
        for (int r = 0; r < 4; ++r) sum[t][r] = fmaf(w[r], v[t], sum[t][r]);
      }
    }
    const bool ends = (g + 1) % split == 0 || g + 1 == groups;
#pragma unroll
    for (int t = 0; t < 4; ++t) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        sum[t][r] = round_accumulator(sum[t][r], p.accum_type);
        if (ends) {
          total[t][r] += sum[t][r];
          sum[t][r] = 0;
        }
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int t = 0; t < 4; ++t) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int token = t0 + tokens_at + t, row = row0 + rows_at + r;
      if (token < tokens.count && row < p.rows)
        store_result(p, expert, tokens.first + token, row, total[t][r]);
    }
  }
}

template <class F>
__global__ void embed_kernel(const EmbeddingParams p) {
  const FileLayoutRow<F> row(p.table + static_cast<int64_t>(p.ids[blockIdx.x]) * p.row_bytes);
  float* out = p.out + static_cast<int64_t>(blockIdx.x) * p.k;
  for (int at = threadIdx.x * quant::kQuantGroup; at < p.k; at += blockDim.x * quant::kQuantGroup) {
    float w[quant::kQuantGroup];
    row.decode(at, p.k, w);
    for (int i = 0; i < quant::kQuantGroup && at + i < p.k; ++i) {
      const float value = p.scale == 1 ? w[i] : p.scale * w[i];
      out[at + i] = p.add_to_out ? out[at + i] + value : value;
    }
  }
}

inline unsigned ceil_div(int64_t count, int size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

template <class Row>
void launch_gemv(const GemmParams& p, CudaStream stream) {
  const dim3 grid(ceil_div(p.rows, kGemvRows), static_cast<unsigned>(p.num_experts));
  if (p.max_tokens == 1)
    gemv_kernel<Row, 1><<<grid, kGemvThreads, 0, stream>>>(p);
  else
    gemv_kernel<Row, 8><<<grid, kGemvThreads, 0, stream>>>(p);
}

template <class Row>
void launch_gemm(const GemmParams& p, CudaStream stream) {
  const dim3 grid(ceil_div(p.rows, kTile), ceil_div(p.max_tokens, kTile),
                  static_cast<unsigned>(p.num_experts));
  gemm_kernel<Row><<<grid, kGemmThreads, 0, stream>>>(p);
}

template <class F>
void launch_embed(const EmbeddingParams& p, CudaStream stream) {
  embed_kernel<F><<<static_cast<unsigned>(p.count), 128, 0, stream>>>(p);
}

}  // namespace
}  // namespace mxgpt::cuda

/// Defines the kernels of format F in quant/<folder>/<folder>.cu.
#define MXGPT_DEFINE_CUDA(folder, F)                                               \
  namespace mxgpt::cuda::formats {                                                 \
  extern const FormatKernels folder##_device{launch_gemv<FileLayoutRow<quant::F>>, \
                                             launch_gemm<FileLayoutRow<quant::F>>, \
                                             launch_embed<quant::F>};              \
  }
