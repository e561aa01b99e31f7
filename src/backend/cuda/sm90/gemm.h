// Linear layers for many rows on tensor cores, from the packed weights of decode.h. Activations are
// rounded to bfloat16; weights are exact, except that Q8_0 is rounded to bfloat16; sums are f32. A
// row's result depends on the number of rows, which selects the kernel and with it the order of
// sums, but not on the other rows.
#pragma once

#include <array>

#include "backend/cuda/sm90/decode.h"

struct CUstream_st;

namespace mxgpt::cuda::sm90 {

/// Columns per row of gemm()'s activation operand.
constexpr int gemm_columns(WeightType kind, int k) {
  return PackedWeight{nullptr, kind, 0, k}.pairs() * kPair;
}

/// Converts f32 [rows][k] to bfloat16 [rows][columns], padded with zeros. k is a multiple of 4.
struct ToBf16 {
  const float* in;
  int64_t rows;
  int k, columns;
  uint16_t* out;
  bool permuted = false;  ///< as in Gemm
};
void round_to_bf16(const ToBf16& p, CUstream_st* stream);

/// Router logits of normed rows: scores = weight · row + bias.
struct RouterLogits {
  const float* weight = nullptr;  ///< [experts][k]
  const float* bias = nullptr;    ///< [experts]
  int experts = 0;
  float* scores = nullptr;  ///< [rows][experts]; null: no router
};
/// out[i] = norm(x[ids[i]]), rounded like round_to_bf16; k ≤ kMaxNormColumns.
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

/// out[token] = weight · x[token] + bias, or added to out[token].
/// With `up`: activated[token] = swiglu(weight · x + bias, up · x + up_bias), as the operand of the
/// next GEMM; both weights are MXFP4.
struct Gemm {
  const uint16_t* x;  ///< bfloat16 [.][gemm_columns]
  PackedWeight weight;
  RowOrder order = RowOrder::natural;
  const float* bias = nullptr;  ///< [slices][rows]
  int slices = 1;
  int tokens;                       ///< total over all slices
  const int32_t* begin = nullptr;   ///< [slices + 1]: first token of each slice; null: one slice
  const int32_t* x_rows = nullptr;  ///< [tokens]: the row of x; null: the token itself
  float* out = nullptr;             ///< [tokens][rows]
  bool add = false;
  /// Further problems with the same x and weight type; one slice only.
  std::array<GemmProblem, 2> also = {};
  PackedWeight up = {};
  const float* up_bias = nullptr;  ///< as bias, which is then required
  Swiglu swiglu = {};
  uint16_t* activated = nullptr;  ///< [tokens][gemm_columns(mxfp4, weight.rows)]
  bool permuted = false;          ///< x and activated are in mma_k_permutation order; see use_wgmma
};
void gemm(const Gemm& p, CUstream_st* stream);

/// Position of a column within its group of 32, such that the K order of the activations matches
/// that of the weights in registers.
constexpr int mma_k_permutation(int column) {
  const int t = column % 32 / 8, e = column % 8;
  return column / 32 * 32 + e / 4 * 16 + 2 * t + e % 2 + e % 4 / 2 * 8;
}
/// Whether gemm() uses wgmma for this many tokens; the activations must then be permuted.
bool use_wgmma(int tokens, int slices);
void gemm_wgmma(const Gemm& p, CUstream_st* stream);

/// For few tokens per slice, where weight bandwidth dominates. Selected by gemm().
bool use_small_m(const Gemm& p);
void gemm_small_m(const Gemm& p, CUstream_st* stream);

}  // namespace mxgpt::cuda::sm90
