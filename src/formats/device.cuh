// What follows from a format's definition on a GPU. `unpack` and `value` are the functions that the
// CPU's oracle has: they are constexpr, and nvcc calls those from kernels. Compiled without
// contraction into fused operations; where one is meant it is written.
#pragma once

#include <cuda_fp16.h>

#include "formats/device.h"
#include "formats/scalar.h"

namespace mxgpt {
namespace {

constexpr int kPieces = DeviceTile::kPieces;

/// A row of a matrix whose blocks are as files have them. A backend with an order of its own has a
/// class like this for it.
template <class F>
class FileRow {
 public:
  /// Whether k is whole groups.
  static constexpr bool kGroups = QuantizedFormat<F>;

  __device__ FileRow(const DeviceTile& p, int slice, int row)
      : FileRow(p.weights + (static_cast<int64_t>(slice) * p.rows + row) * p.row_bytes) {}
  __device__ explicit FileRow(const std::byte* row)
      : blocks_(reinterpret_cast<const typename F::Block*>(row)) {}

  /// Elements at, at + 1, … as f32; those past the row's end are 0.
  __device__ __forceinline__ void decode(int at, int k, float (&w)[kGroup]) const {
    if constexpr (kGroups) {
      Group group;
      F::unpack(blocks_[at / F::kElements], at % F::kElements / kGroup, group);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) w[i] = element<F>(group, i);
    } else {
#pragma unroll
      for (int i = 0; i < kGroup; ++i) w[i] = at + i < k ? F::value(blocks_[at + i]) : 0.0f;
    }
  }

 private:
  const typename F::Block* blocks_;
};

/// Four activations; past the end of a row they are 0.
template <class Row>
__device__ __forceinline__ float4 four(const float* x, int at, int k) {
  if constexpr (Row::kGroups) {
    return *reinterpret_cast<const float4*>(x + at);  // k is whole groups: rows are aligned
  } else {
    const auto one = [&](int i) { return at + i < k ? x[at + i] : 0.0f; };
    return {one(0), one(1), one(2), one(3)};
  }
}

/// A sum as the accumulator keeps it.
__device__ __forceinline__ float kept(float sum, Accumulate accumulate) {
  return accumulate == Accumulate::f16 ? __half2float(__float2half_rn(sum)) : sum;
}

__device__ __forceinline__ int groups_of(int k) {
  return (k + kGroup - 1) / kGroup;
}
__device__ __forceinline__ int groups_a_piece(int k) {
  return (groups_of(k) + kPieces - 1) / kPieces;
}

struct Tokens {
  int first, count;
};
__device__ __forceinline__ Tokens tokens_of(const DeviceTile& p, int slice) {
  if (!p.begin) return {0, p.tokens};
  return {p.begin[slice], p.begin[slice + 1] - p.begin[slice]};
}

__device__ __forceinline__ const float* x_of(const DeviceTile& p, int token) {
  return p.x + static_cast<int64_t>(p.x_rows ? p.x_rows[token] : token) * p.k;
}

__device__ __forceinline__ void finish(const DeviceTile& p, int slice, int token, int row,
                                       float sum) {
  float result = kept(sum, p.accumulate);
  if (p.bias) result += p.bias[static_cast<int64_t>(slice) * p.rows + row];
  float& out = p.out[static_cast<int64_t>(token) * p.rows + row];
  out = p.add ? out + result : result;
}

constexpr int kFewThreads = 256, kFewRows = kFewThreads / kPieces;

/// A thread sums one piece of one row.
template <class Row, int kTokens>
__global__ void __launch_bounds__(kFewThreads) few_tokens(const DeviceTile p) {
  const int slice = blockIdx.y, piece = threadIdx.x % kPieces;
  const int row = blockIdx.x * kFewRows + threadIdx.x / kPieces;
  const Tokens tokens = tokens_of(p, slice);
  const Row weights(p, slice, min(row, p.rows - 1));
  const int length = groups_a_piece(p.k) * kGroup;
  const int begin = piece * length, end = min(p.k, begin + length);
  for (int t0 = 0; t0 < tokens.count; t0 += kTokens) {
    const float* x[kTokens];
    float sum[kTokens];
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      x[t] = x_of(p, tokens.first + min(t0 + t, tokens.count - 1));
      sum[t] = 0;
    }
    for (int at = begin; at < end; at += kGroup) {
      float w[kGroup];
      weights.decode(at, p.k, w);
#pragma unroll
      for (int i = 0; i < kGroup; i += 4) {
#pragma unroll
        for (int t = 0; t < kTokens; ++t) {
          const float4 v = four<Row>(x[t], at + i, p.k);
          sum[t] = fmaf(w[i], v.x, sum[t]);
          sum[t] = fmaf(w[i + 1], v.y, sum[t]);
          sum[t] = fmaf(w[i + 2], v.z, sum[t]);
          sum[t] = fmaf(w[i + 3], v.w, sum[t]);
        }
      }
#pragma unroll
      for (int t = 0; t < kTokens; ++t) sum[t] = kept(sum[t], p.accumulate);
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      float total = 0;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) total += __shfl_sync(~0u, sum[t], i, kPieces);
      if (piece == 0 && row < p.rows && t0 + t < tokens.count)
        finish(p, slice, tokens.first + t0 + t, row, total);
    }
  }
}

constexpr int kTile = 64, kManyThreads = 256;

/// A thread sums 4 rows × 4 tokens of a tile, in the order that few_tokens has.
template <class Row>
__global__ void __launch_bounds__(kManyThreads) many_tokens(const DeviceTile p) {
  constexpr int kPad = 4;  // so that rows of the arrays begin in other banks, still 16-byte aligned
  __shared__ __align__(16) float w_tile[kGroup][kTile + kPad], x_tile[kGroup][kTile + kPad];
  const int slice = blockIdx.z, row0 = blockIdx.x * kTile, t0 = blockIdx.y * kTile;
  const Tokens tokens = tokens_of(p, slice);
  if (t0 >= tokens.count) return;
  const int rows_at = threadIdx.x % 16 * 4, tokens_at = threadIdx.x / 16 * 4;
  const int x_token = threadIdx.x % kTile;
  const float* x = x_of(p, tokens.first + min(t0 + x_token, tokens.count - 1));
  const Row weights(p, slice, min(row0 + static_cast<int>(threadIdx.x % kTile), p.rows - 1));
  const int groups = groups_of(p.k), piece = groups_a_piece(p.k);
  float total[4][4] = {}, sum[4][4] = {};
  for (int g = 0; g < groups; ++g) {
    const int at = g * kGroup;
    if (threadIdx.x < kTile) {
      float w[kGroup];
      weights.decode(at, p.k, w);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) w_tile[i][threadIdx.x] = w[i];
    }
    for (int i = threadIdx.x / kTile * 4; i < kGroup; i += kManyThreads / kTile * 4) {
      const float4 v = four<Row>(x, at + i, p.k);
      x_tile[i][x_token] = v.x;
      x_tile[i + 1][x_token] = v.y;
      x_tile[i + 2][x_token] = v.z;
      x_tile[i + 3][x_token] = v.w;
    }
    __syncthreads();
#pragma unroll 8
    for (int i = 0; i < kGroup; ++i) {
      const float4 w4 = *reinterpret_cast<const float4*>(&w_tile[i][rows_at]);
      const float4 x4 = *reinterpret_cast<const float4*>(&x_tile[i][tokens_at]);
      const float w[4] = {w4.x, w4.y, w4.z, w4.w}, v[4] = {x4.x, x4.y, x4.z, x4.w};
#pragma unroll
      for (int t = 0; t < 4; ++t) {
#pragma unroll
        for (int r = 0; r < 4; ++r) sum[t][r] = fmaf(w[r], v[t], sum[t][r]);
      }
    }
    const bool ends = (g + 1) % piece == 0 || g + 1 == groups;
#pragma unroll
    for (int t = 0; t < 4; ++t) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        sum[t][r] = kept(sum[t][r], p.accumulate);
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
        finish(p, slice, tokens.first + token, row, total[t][r]);
    }
  }
}

template <class F>
__global__ void look_up(const DeviceLookup p) {
  const FileRow<F> row(p.table + static_cast<int64_t>(p.ids[blockIdx.x]) * p.row_bytes);
  float* out = p.out + static_cast<int64_t>(blockIdx.x) * p.k;
  for (int at = threadIdx.x * kGroup; at < p.k; at += blockDim.x * kGroup) {
    float w[kGroup];
    row.decode(at, p.k, w);
    for (int i = 0; i < kGroup && at + i < p.k; ++i) {
      const float value = p.scale == 1 ? w[i] : p.scale * w[i];
      out[at + i] = p.add ? out[at + i] + value : value;
    }
  }
}

inline unsigned blocks_for(int64_t count, int size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

template <class Row>
void launch_few(const DeviceTile& p, DeviceStream stream) {
  const dim3 grid(blocks_for(p.rows, kFewRows), static_cast<unsigned>(p.slices));
  if (p.tokens == 1)
    few_tokens<Row, 1><<<grid, kFewThreads, 0, stream>>>(p);
  else
    few_tokens<Row, 8><<<grid, kFewThreads, 0, stream>>>(p);
}

template <class Row>
void launch_many(const DeviceTile& p, DeviceStream stream) {
  const dim3 grid(blocks_for(p.rows, kTile), blocks_for(p.tokens, kTile),
                  static_cast<unsigned>(p.slices));
  many_tokens<Row><<<grid, kManyThreads, 0, stream>>>(p);
}

template <class F>
void launch_lookup(const DeviceLookup& p, DeviceStream stream) {
  look_up<F><<<static_cast<unsigned>(p.count), 128, 0, stream>>>(p);
}

}  // namespace
}  // namespace mxgpt

/// In formats/<folder>/<folder>.cu: the kernels of the format F.
#define MXGPT_DEFINE_DEVICE(folder, F)                                                        \
  namespace mxgpt::formats {                                                                  \
  extern const DeviceKernels folder##_device{launch_few<FileRow<F>>, launch_many<FileRow<F>>, \
                                             launch_lookup<F>};                               \
  }
