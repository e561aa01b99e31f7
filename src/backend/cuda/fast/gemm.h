// Linear layers for many rows on tensor cores, from the same packed weights as decode: activations
// rounded to bfloat16, weights exact but for Q8_0's (bfloat16 too), sums in f32. A row's result
// depends on nothing else in the batch, but on how many rows there are: on Hopper, few are summed
// in another order than many.
#pragma once

#include <array>

#include "backend/cuda/fast/decode.h"

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

struct GemmPart {
  Packed weight = {};
  RowOrder order = RowOrder::natural;
  const float* bias = nullptr;
  float* out = nullptr;
};

/// out[token] = weight · x[token] + bias, or added to what out holds.
/// With `up`: activated[token] = swiglu(weight · x + bias, up · x + up_bias), as a row of the next
/// product's x; both weights are MXFP4.
struct Gemm {
  const uint16_t* x;  ///< bfloat16 [.][gemm_columns]
  Packed weight;
  RowOrder order = RowOrder::natural;
  const float* bias = nullptr;  ///< [slices][rows]
  int slices = 1;
  int tokens;                       ///< with slices: of all of them together
  const int32_t* begin = nullptr;   ///< [slices + 1]: where a slice's tokens start; null: one slice
  const int32_t* x_rows = nullptr;  ///< [tokens]: the row of x; null: the token itself
  float* out = nullptr;             ///< [tokens][rows]
  bool add = false;
  /// More weights of this kind for the same x, each with its own result; of one slice.

  std::array<GemmPart, 2> also = {};
  Packed up = {};
  const float* up_bias = nullptr;  ///< as bias, which must be there too
  Swiglu swiglu = {};
  uint16_t* activated = nullptr;  ///< [tokens][gemm_columns(mxfp4, weight.rows)]
};
void gemm(const Gemm& p, CUstream_st* stream);

/// By few tokens a slice, where the weights' way here is what takes time: gemm() goes there itself.
bool streams(const Gemm& p);
void gemm_streamed(const Gemm& p, CUstream_st* stream);

}  // namespace mxgpt::cuda::fast
