// Linear layers for many rows on tensor cores, from the same packed weights as decode: activations
// rounded to bfloat16, weights exact but for Q8_0's (bfloat16 too), sums in f32. A row's result
// depends on nothing else in the batch, but on how many rows there are: on Hopper, few are summed
// in another order than many.
#pragma once

#include <array>

#include "backend/cuda/sm90/decode.h"

struct CUstream_st;

namespace mxgpt::cuda::sm90 {

/// Columns of a row of activations as `gemm` reads them.
constexpr int gemm_columns(WeightType kind, int k) {
  return PackedWeight{nullptr, kind, 0, k}.pairs() * kPair;
}

/// f32 [rows][k] to bfloat16 [rows][columns], filled up with zeros. k is a multiple of 4.
struct ToBf16 {
  const float* in;
  int64_t rows;
  int k, columns;
  uint16_t* out;
  bool permuted = false;  ///< as of Gemm
};
void round_to_bf16(const ToBf16& p, CUstream_st* stream);

/// Of rows that are being normed, what a router says: scores = weight · row + bias.
struct RouterLogits {
  const float* weight = nullptr;  ///< [experts][k]
  const float* bias = nullptr;    ///< [experts]
  int experts = 0;
  float* scores = nullptr;  ///< [rows][experts]; null: there is none
};
/// norm(x[ids[i]]), rounded as by round_to_bf16; k is at most kMostNormed.
struct NormToBf16 {
  const float* x;
  const int32_t* ids = nullptr;  ///< [rows]; null: 0, 1, 2…
  RmsNorm norm;
  int rows, k, columns;
  uint16_t* out;
  bool permuted = false;
  RouterLogits router = {};
};
inline constexpr int kMaxNormColumns = 12 * 1024;
void norm_to_bf16(const NormToBf16& p, CUstream_st* stream);

struct GemmProblem {
  PackedWeight weight = {};
  RowOrder order = RowOrder::natural;
  const float* bias = nullptr;
  float* out = nullptr;
};

/// out[token] = weight · x[token] + bias, or added to what out holds.
/// With `up`: activated[token] = swiglu(weight · x + bias, up · x + up_bias), as a row of the next
/// product's x; both weights are MXFP4.
struct Gemm {
  const uint16_t* x;  ///< bfloat16 [.][gemm_columns]
  PackedWeight weight;
  RowOrder order = RowOrder::natural;
  const float* bias = nullptr;  ///< [slices][rows]
  int slices = 1;
  int tokens;                       ///< with slices: of all of them together
  const int32_t* begin = nullptr;   ///< [slices + 1]: where a slice's tokens start; null: one slice
  const int32_t* x_rows = nullptr;  ///< [tokens]: the row of x; null: the token itself
  float* out = nullptr;             ///< [tokens][rows]
  bool add = false;
  /// More weights of this kind for the same x, each with its own result; of one slice.

  std::array<GemmProblem, 2> also = {};
  PackedWeight up = {};
  const float* up_bias = nullptr;  ///< as bias, which must be there too
  Swiglu swiglu = {};
  uint16_t* activated = nullptr;  ///< [tokens][gemm_columns(mxfp4, weight.rows)]
  bool permuted = false;          ///< x and activated, by shuffled_column; as is_wide says
};
void gemm(const Gemm& p, CUstream_st* stream);

/// In every 32 columns of activations, where a column goes so that the tensor cores find it where
/// the weights' registers have it.
constexpr int mma_k_permutation(int column) {
  const int t = column % 32 / 8, e = column % 8;
  return column / 32 * 32 + e / 4 * 16 + 2 * t + e % 2 + e % 4 / 2 * 8;
}
/// Whether a product of so many tokens is gemm_wide's, and its activations are to be shuffled.
bool use_wgmma(int tokens, int slices);
void gemm_wgmma(const Gemm& p, CUstream_st* stream);

/// By few tokens a slice, where the weights' way here is what takes time: gemm() goes there itself.
bool use_small_m(const Gemm& p);
void gemm_small_m(const Gemm& p, CUstream_st* stream);

}  // namespace mxgpt::cuda::sm90
