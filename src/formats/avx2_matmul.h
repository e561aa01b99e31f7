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

#include "formats/avx2_bytes.h"
#include "formats/avx2_f32.h"

namespace mxgpt::avx2 {

/// Tiles of kTokens from token0 on, then what remains.
template <class Product, int kTokens, int kOctets>
void tiles(const MatmulTile& p, const typename Product::template Panel<kOctets>& panel,
           int64_t row0, int64_t at, int count, int64_t token0) {
  for (; token0 + kTokens <= p.tokens; token0 += kTokens)
    Product::template tile<kTokens>(p, panel, row0, at, count, token0);
  if constexpr (kTokens > 1) tiles<Product, kTokens / 2>(p, panel, row0, at, count, token0);
}

template <class Product, int kOctets>
void gemm(const MatmulTile& p, int64_t row0, int64_t at, int count) {
  typename Product::template Panel<kOctets> panel;
  Product::template pack<kOctets>(p, row0, at, count, panel);
  tiles<Product, Product::kTileTokens>(p, panel, row0, at, count, 0);
}

template <class Product, int kTokens>
void gemv(const MatmulTile& p) {
  for (int64_t row = 0; row < p.rows; row += Product::kGemvRows)
    Product::template gemv<kTokens>(p, row, 0);
}

template <class Product>
void matmul_of(const MatmulTile& p) {
  if (p.tokens == 1) return gemv<Product, 1>(p);
  if (p.tokens == 2) return gemv<Product, 2>(p);
  if (p.tokens == 3) return gemv<Product, 3>(p);
  for (int64_t at = 0; at < p.k; at += kSpan) {
    const int count = static_cast<int>(std::min<int64_t>(kSpan, p.k - at));
    int64_t row = 0;
    for (; row + 8 < p.rows; row += 16) gemm<Product, 2>(p, row, at, count);
    if (row < p.rows) gemm<Product, 1>(p, row, at, count);
  }
}

template <template <class, Accumulate> class Product, class G>
void matmul(const MatmulTile& p) {
  p.accumulate == Accumulate::f16 ? matmul_of<Product<G, Accumulate::f16>>(p)
                                  : matmul_of<Product<G, Accumulate::f32>>(p);
}

template <class G>
void matmul_q16(const MatmulTile& p) {
  if constexpr (byte_activations<G>()) {
    if (p.x16.bytes) return matmul<Bytes, G>(p);
  }
  matmul<Q16, G>(p);
}

template <class G>
constexpr Kernels kernels_of() {
  Kernels kernels{.matmul_f32 = matmul<F32, G>, .matmul_q16 = nullptr};
  if constexpr (QuantizedFormat<G>) kernels.matmul_q16 = matmul_q16<G>;
  return kernels;
}

}  // namespace mxgpt::avx2
