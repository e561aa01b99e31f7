// The GEMM contract on the CPU: out = x · Wᵀ for weights of any format. kernels/cpu/reference.h
// implements it in plain C++, avx2/ and avx512/ with intrinsics.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/attributes.h"
#include "kernels/accum_type.h"
#include "kernels/cpu/activations.h"
#include "kernels/cpu/isa.h"
#include "quant/format.h"

namespace mxgpt::kernels {

/// A tile of out = x · Wᵀ: all `tokens` with `rows` rows of one weight.
struct GemmArgs {
  const std::byte* weights;  ///< first row of the tile, aligned like the format's block
  int64_t row_bytes;
  int64_t rows;
  int64_t k;                   ///< elements per row
  const float* x;              ///< [.][k], for matmul_f32
  Int16Activations x_int16;    ///< for matmul_int16
  const int32_t* row_indices;  ///< [tokens]: row of x or x_int16 per token; null: 0, 1, 2…
  int64_t tokens;
  float* out;  ///< out[token * out_stride + row] is overwritten
  int64_t out_stride;
  AccumType accum_type = AccumType::f32;
};

/// Kernels of one format for one instruction set. A result is a single chain of f32 sums that
/// starts at 0 and follows the order of k. It does not depend on the rows and tokens computed
/// beside it.
struct GemmKernels {
  /// Activations in f32: exact with f32 accumulation, and the only kernel of floating-point
  /// formats. sum = w · x + sum per element, with w as `dequantize` gives it. Fused, and therefore
  /// bit-identical on all instruction sets except `scalar`.
  void (*matmul_f32)(const GemmArgs&);
  /// Activations in 16 bits, bit-identical on all instruction sets; null for floating-point
  /// formats. Each group adds, by fused multiply-adds:
  ///   sum = (scale · x.scale) · (float) Σ q · x.q + sum
  ///   sum = offset · (x.sum[0] + x.sum[1]) + sum       formats with offsets
  /// The product of the scales is rounded; Σ is an integer. A format with one scale per half group
  /// adds two terms of the first kind, then two of the second, each with its own x.sum.
  void (*matmul_int16)(const GemmArgs&);
  /// Whether matmul_int16 takes outlier-split activations. The same for all instruction sets.
  bool int8_activations = false;
};

/// The kernels of a format for one instruction set, which this build must support.
const GemmKernels& gemm_kernels(quant::Format format, Isa isa);
/// The kernels for the instruction set that isa() selects.
const GemmKernels& gemm_kernels(quant::Format format);

/// std::min and std::max for files of several instruction sets (base/attributes.h).
template <class T>
MXGPT_ALWAYS_INLINE constexpr T min_of(T a, T b) {
  return b < a ? b : a;
}
template <class T>
MXGPT_ALWAYS_INLINE constexpr T max_of(T a, T b) {
  return a < b ? b : a;
}

/// Row of the activations for a token.
MXGPT_ALWAYS_INLINE int64_t activation_row(const GemmArgs& p, int64_t token) {
  return p.row_indices ? p.row_indices[token] : token;
}

}  // namespace mxgpt::kernels
