// out = x · Wᵀ for AVX2. Lane = row: a register holds the sums of eight rows with one token, so
// that each result is one chain of f32 sums in the order that format.h defines, whatever is
// computed beside it.
//
// With up to three tokens the weights go from memory through registers. With 16-bit
// activations the products of a row lie along k at first; the int32 sums of eight rows are joined
// by a tree of horizontal additions, whose order does not matter. With bytes (avx2_bytes.h) a group
// is transposed first, for which nibbles need half the steps.
//
// With more tokens, 16 rows by 256 elements are unpacked into a panel on the stack, with lane =
// row, and tiles of 16 rows by some tokens run over it. `out` holds the sums from one panel of k to
// the next. Of 16-bit activations, pairs are broadcast: for 8 rows × 32 elements × 1 token that is
// 16 multiply-adds of pairs, 16 additions, and 3 operations to convert, scale and add, so at three
// vector operations a cycle 22 multiply-adds a cycle, where FMAs in f32 allow 16. Of bytes, quads
// are broadcast: 10 multiply-adds, 9 additions, and 6 operations, so 31 multiply-adds a cycle.
#pragma once

#include "kernels/cpu/avx2/gemm_f32.h"
#include "kernels/cpu/avx2/gemm_int8.h"

namespace mxgpt::kernels::avx2 {

/// Tiles of kTokens from token0 on, then what remains.
template <class Product, int kTokens, int kRowBlocks>
void gemm_tiles(const quant::GemmArgs& p, const typename Product::template Panel<kRowBlocks>& panel,
                int64_t row0, int64_t at, int count, int64_t token0) {
  for (; token0 + kTokens <= p.tokens; token0 += kTokens)
    Product::template tile<kTokens>(p, panel, row0, at, count, token0);
  if constexpr (kTokens > 1) gemm_tiles<Product, kTokens / 2>(p, panel, row0, at, count, token0);
}

template <class Product, int kRowBlocks>
void gemm_panel(const quant::GemmArgs& p, int64_t row0, int64_t at, int count) {
  typename Product::template Panel<kRowBlocks> panel;
  Product::template pack<kRowBlocks>(p, row0, at, count, panel);
  gemm_tiles<Product, Product::kTileTokens>(p, panel, row0, at, count, 0);
}

template <class Product, int kTokens>
void gemv(const quant::GemmArgs& p) {
  for (int64_t row = 0; row < p.rows; row += Product::kGemvRows)
    Product::template gemv<kTokens>(p, row, 0);
}

template <class Product>
void matmul_with(const quant::GemmArgs& p) {
  if (p.tokens == 1) return gemv<Product, 1>(p);
  if (p.tokens == 2) return gemv<Product, 2>(p);
  if (p.tokens == 3) return gemv<Product, 3>(p);
  for (int64_t at = 0; at < p.k; at += kPanelK) {
    const int count = static_cast<int>(std::min<int64_t>(kPanelK, p.k - at));
    int64_t row = 0;
    for (; row + 8 < p.rows; row += 16) gemm_panel<Product, 2>(p, row, at, count);
    if (row < p.rows) gemm_panel<Product, 1>(p, row, at, count);
  }
}

template <template <class, quant::AccumType> class Product, class G>
void dispatch_accum_type(const quant::GemmArgs& p) {
  p.accum_type == quant::AccumType::f16 ? matmul_with<Product<G, quant::AccumType::f16>>(p)
                                        : matmul_with<Product<G, quant::AccumType::f32>>(p);
}

template <class G>
void matmul_int16(const quant::GemmArgs& p) {
  if constexpr (quant::int8_activations<G>()) {
    if (p.x_int16.outlier_split) return dispatch_accum_type<Int8, G>(p);
  }
  dispatch_accum_type<Int16, G>(p);
}

template <class G>
constexpr quant::GemmKernels kernels_of() {
  quant::GemmKernels kernels{.matmul_f32 = dispatch_accum_type<F32, G>, .matmul_int16 = nullptr};
  if constexpr (quant::QuantizedFormat<G>) kernels.matmul_int16 = matmul_int16<G>;
  return kernels;
}

}  // namespace mxgpt::kernels::avx2
