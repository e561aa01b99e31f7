// out = x · Wᵀ with AVX2. Lane = row: a register holds the sums of eight rows (NR = 8) with one
// token. Every result is thus one chain of f32 sums in the order of kernels/cpu/gemm.h, whatever is
// computed beside it.
//
// Up to three tokens (GEMV): weights go from memory through registers once. With 16-bit activations
// the products of a row first lie along k; a tree of horizontal additions joins the int32 sums of
// eight rows, and integer sums have no order. With 8-bit activations (gemm_int8.h) a group is
// transposed first, which takes nibbles half the shuffles.
//
// More tokens (GEMM): two row blocks (NR = 16) by KC = 256 elements are unpacked into a packed
// panel on the stack, lane = row, and a micro-kernel runs over it with a few tokens at a time (MR).
// `out` holds the sums between panels. The micro-kernels broadcast activations. Per 8 rows, 32
// elements and token:
//   int16   pairs: 16 multiply-adds, 16 additions and 3 operations to convert, scale and add;
//           22 multiply-adds per cycle at three vector operations per cycle (f32 FMAs allow 16)
//   int8    dwords: 10 multiply-adds, 9 additions and 6 other operations; 31 per cycle
#pragma once

#include "kernels/cpu/avx2/gemm_f32.h"
#include "kernels/cpu/avx2/gemm_int8.h"

namespace mxgpt::kernels::avx2 {

/// Runs the micro-kernel on kTokens tokens at a time from token0 on, then on the rest.
template <class MicroKernel, int kTokens, int kRowBlocks>
void gemm_tiles(const GemmArgs& p, const typename MicroKernel::template Panel<kRowBlocks>& panel,
                int64_t row0, int64_t at, int count, int64_t token0) {
  for (; token0 + kTokens <= p.tokens; token0 += kTokens)
    MicroKernel::template tile<kTokens>(p, panel, row0, at, count, token0);
  if constexpr (kTokens > 1)
    gemm_tiles<MicroKernel, kTokens / 2>(p, panel, row0, at, count, token0);
}

template <class MicroKernel, int kRowBlocks>
void gemm_panel(const GemmArgs& p, int64_t row0, int64_t at, int count) {
  typename MicroKernel::template Panel<kRowBlocks> panel;
  MicroKernel::template pack<kRowBlocks>(p, row0, at, count, panel);
  gemm_tiles<MicroKernel, MicroKernel::kTileTokens>(p, panel, row0, at, count, 0);
}

template <class MicroKernel, int kTokens>
void gemv(const GemmArgs& p) {
  for (int64_t row = 0; row < p.rows; row += MicroKernel::kGemvRows)
    MicroKernel::template gemv<kTokens>(p, row, 0);
}

template <class MicroKernel>
void matmul_with(const GemmArgs& p) {
  if (p.tokens == 1) return gemv<MicroKernel, 1>(p);
  if (p.tokens == 2) return gemv<MicroKernel, 2>(p);
  if (p.tokens == 3) return gemv<MicroKernel, 3>(p);
  for (int64_t at = 0; at < p.k; at += kPanelK) {
    const int count = static_cast<int>(min_of<int64_t>(kPanelK, p.k - at));
    int64_t row = 0;
    for (; row + 8 < p.rows; row += 16) gemm_panel<MicroKernel, 2>(p, row, at, count);
    if (row < p.rows) gemm_panel<MicroKernel, 1>(p, row, at, count);
  }
}

template <template <class, AccumType> class MicroKernel, class G>
void dispatch_accum_type(const GemmArgs& p) {
  p.accum_type == AccumType::f16 ? matmul_with<MicroKernel<G, AccumType::f16>>(p)
                                 : matmul_with<MicroKernel<G, AccumType::f32>>(p);
}

template <class G>
void matmul_int16(const GemmArgs& p) {
  if constexpr (int8_activations<G>()) {
    if (p.x_int16.outlier_split) return dispatch_accum_type<Int8, G>(p);
  }
  dispatch_accum_type<Int16, G>(p);
}

template <class G>
constexpr GemmKernels kernels_of() {
  GemmKernels kernels{.matmul_f32 = dispatch_accum_type<F32, G>,
                      .matmul_int16 = nullptr,
                      .int8_activations = int8_activations<G>()};
  if constexpr (quant::QuantizedFormat<G>) kernels.matmul_int16 = matmul_int16<G>;
  return kernels;
}

}  // namespace mxgpt::kernels::avx2
