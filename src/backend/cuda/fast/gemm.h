// Linear layers for many rows on tensor cores, from the same packed weights as decode: activations
// rounded to bfloat16, weights exact but for Q8_0's (bfloat16 too), sums in f32. A row's result
// depends on nothing else in the batch.
#pragma once

#include "backend/cuda/fast/layout.h"

struct CUstream_st;

namespace mxgpt::cuda::fast {

/// Columns of a row of activations as `gemm` reads them.
constexpr int gemm_columns(Kind kind, int k) {
  return Packed{nullptr, kind, 0, k}.pairs() * kPair;
}

/// f32 [rows][k] to bfloat16 [rows][columns], filled up with zeros. k is a multiple of 4.
struct Round {
  const float* in;
  int64_t rows;
  int k, columns;
  uint16_t* out;
};
void round_to_bf16(const Round& p, CUstream_st* stream);

/// out[token] = weight · x[token] + bias, or added to what out holds.
struct Gemm {
  const uint16_t* x;  ///< bfloat16 [.][gemm_columns]
  Packed weight;
  RowOrder order = RowOrder::natural;
  const float* bias = nullptr;  ///< [slices][rows]
  int slices = 1;
  int tokens;                       ///< with slices: of all of them together
  const int32_t* begin = nullptr;   ///< [slices + 1]: where a slice's tokens start; null: one slice
  const int32_t* x_rows = nullptr;  ///< [tokens]: the row of x; null: the token itself
  float* out;                       ///< [tokens][rows]
  bool add = false;
};
void gemm(const Gemm& p, CUstream_st* stream);

}  // namespace mxgpt::cuda::fast
