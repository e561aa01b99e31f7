// AVX2 micro-kernels for outlier-split activations (OutlierSplitGroup); see gemm.h.
//
// Weights are unsigned bytes q + kBias, so small that products with several low bytes add up in 16
// bits (dwords_per_int16_sum). The high bytes of a group are multiplied for its two outlier dwords
// only. The resulting integers equal those of gemm_int16.h.
#pragma once

#include "kernels/cpu/avx2/gemm_int16.h"

namespace mxgpt::kernels::avx2 {

/// Packed panel of kRowBlocks · 8 rows by up to kPanelK elements; lane = row. A dword holds four
/// consecutive elements.
template <int kRowBlocks>
struct PanelInt8 {
  __m256i dwords[kPanelGroups][kRowBlocks][quant::kQuantGroup / 4];
  __m256 scale[kPanelGroups][kRowBlocks];
  __m256 offset[kPanelGroups][kRowBlocks];  ///< unset without kHasOffset
};

template <class G, int kRowBlocks>
[[gnu::flatten]] void pack_int8(const GemmArgs& p, int64_t row0, int64_t at, int groups,
                                PanelInt8<kRowBlocks>& panel) {
  for (int o = 0; o < kRowBlocks; ++o) {
    const RowBlock<G> rows(p, row0 + o * 8);
    const RowScales<G> scales(rows, at);
    for (int g = 0; g < groups; ++g) {
      const GroupScales w = scales.for_group(g);
      panel.scale[g][o] = w.scale[0];
      if constexpr (G::kHasOffset) panel.offset[g][o] = w.offset[0];
      __m256i dwords[8];
      load_transposed(rows, at + g * quant::kQuantGroup, dwords);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) panel.dwords[g][o][i] = dwords[i];
    }
  }
}

/// Keeps the compiler from computing all products first, which would spill registers.
inline void optimization_barrier(__m256i& sum) {
  asm("" : "+x"(sum));
}

inline __m256i broadcast_dword(const int8_t* bytes) {
  int32_t dword;
  std::memcpy(&dword, bytes, sizeof dword);
  return _mm256_set1_epi32(dword);
}

/// Number of dwords whose products with low bytes add up in a 16-bit lane: the whole group within
/// the bound kMaxLowSum, otherwise four of any bytes (kMaxInt8Range).
template <class G>
constexpr int dwords_per_int16_sum() {
  if (G::kRange * kMaxLowSum <= 32767) return quant::kQuantGroup / 4;
  static_assert(4 * 2 * G::kRange * 128 <= 32767);
  return 4;
}

/// 256 times the products of a group of eight rows with its outliers' high bytes.
inline __m256i outlier_products(const __m256i (&dwords)[quant::kQuantGroup / 4],
                                const OutlierSplitGroup& x) {
  const auto* bytes = reinterpret_cast<const char*>(dwords);
  const auto products = [&](int i) {
    const char* at = bytes + x.outlier_offset[i] * uint64_t{sizeof(__m256i) / 4};
    return _mm256_maddubs_epi16(_mm256_load_si256(reinterpret_cast<const __m256i*>(at)),
                                broadcast_dword(x.outlier_high[i]));
  };
  return _mm256_madd_epi16(_mm256_add_epi16(products(0), products(1)), _mm256_set1_epi16(256));
}

/// Adds the product of a group of eight rows with x. `low` holds the products with low bytes.
template <class G, AccumType kAccum>
__m256 accumulate_group(__m256 sums, __m256i low, const __m256i (&dwords)[quant::kQuantGroup / 4],
                        __m256 scale, const __m256& offset, const OutlierSplitGroup& x) {
  __m256i dot = _mm256_add_epi32(low, outlier_products(dwords, x));
  if constexpr (G::kBias != 0)
    dot = _mm256_sub_epi32(dot, _mm256_set1_epi32(x.bias_product(G::kBias)));
  sums = accumulate_scaled(sums, dot, scale, x.scale);
  if constexpr (G::kHasOffset) sums = _mm256_fmadd_ps(offset, _mm256_set1_ps(x.sum), sums);
  return round_accumulator<kAccum>(sums);
}

/// Micro-kernel: the panel's rows with kTokens tokens. Adds to `out`, or overwrites it if at = 0.
template <class G, AccumType kAccum, int kTokens, int kRowBlocks>
void tile_int8(const GemmArgs& p, const PanelInt8<kRowBlocks>& panel, int64_t row0, int64_t at,
               int groups, int64_t token0) {
  constexpr int kDwords = quant::kQuantGroup / 4, kDwordsPerSum = dwords_per_int16_sum<G>();
  const auto each = [](auto&& f) {
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
      for (int o = 0; o < kRowBlocks; ++o) f(t, o);
    }
  };
  const OutlierSplitGroup* x[kTokens];
  for (int t = 0; t < kTokens; ++t)
    x[t] = TokenActivations(p, token0 + t).bytes + at / quant::kQuantGroup;
  __m256 sums[kTokens][kRowBlocks];
  each([&](int t, int o) {
    sums[t][o] = at ? OutputRows(p, row0 + o * 8).load(token0 + t) : _mm256_setzero_ps();
  });
  for (int g = 0; g < groups; ++g) {
    const auto& w = panel.dwords[g];
    __m256i dots[kTokens][kRowBlocks];
#pragma GCC unroll 2
    for (int first = 0; first < kDwords; first += kDwordsPerSum) {
      __m256i words[kTokens][kRowBlocks];
#pragma GCC unroll 8
      for (int i = first; i < first + kDwordsPerSum; ++i) {
#pragma GCC unroll 4
        for (int t = 0; t < kTokens; ++t) {
          const __m256i x_dword = broadcast_dword(x[t][g].low + 4 * i);
#pragma GCC unroll 2
          for (int o = 0; o < kRowBlocks; ++o) {
            const __m256i products = _mm256_maddubs_epi16(w[o][i], x_dword);
            words[t][o] = i == first ? products : _mm256_add_epi16(words[t][o], products);
            optimization_barrier(words[t][o]);
          }
        }
      }
      each([&](int t, int o) {
        const __m256i part = _mm256_madd_epi16(words[t][o], _mm256_set1_epi16(1));
        dots[t][o] = first == 0 ? part : _mm256_add_epi32(dots[t][o], part);
      });
    }
    each([&](int t, int o) {
      sums[t][o] = accumulate_group<G, kAccum>(sums[t][o], dots[t][o], w[o], panel.scale[g][o],
                                               panel.offset[g][o], x[t][g]);
    });
  }
  each([&](int t, int o) { OutputRows(p, row0 + o * 8).store(token0 + t, sums[t][o]); });
}

/// GEMV of eight rows with kTokens tokens, straight from memory.
template <class G, AccumType kAccum, int kTokens>
[[gnu::flatten]] void gemv_int8(const GemmArgs& p, int64_t row0, int64_t token0) {
  constexpr int kDwords = quant::kQuantGroup / 4, kDwordsPerSum = dwords_per_int16_sum<G>();
  const RowBlock<G> rows(p, row0);
  const OutlierSplitGroup* x[kTokens];
  __m256 sums[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    x[t] = TokenActivations(p, token0 + t).bytes;
    sums[t] = _mm256_setzero_ps();
  }
  for (int64_t at = 0; at < p.k; at += kPanelK) {
    const int groups = static_cast<int>(min_of<int64_t>(kPanelK, p.k - at)) / quant::kQuantGroup;
    const RowScales<G> scales(rows, at);
    for (int g = 0; g < groups; ++g) {
      const int64_t group = at / quant::kQuantGroup + g;
      rows.prefetch_next(group * quant::kQuantGroup);
      const GroupScales w = scales.for_group(g);
      __m256i dwords[kDwords];
      load_transposed(rows, group * quant::kQuantGroup, dwords);
      alignas(32) __m256i in_memory[kDwords];  // for the two outlier dwords
#pragma GCC unroll 8
      for (int i = 0; i < kDwords; ++i) in_memory[i] = dwords[i];
#pragma GCC unroll 3
      for (int t = 0; t < kTokens; ++t) {
        const OutlierSplitGroup& x_group = x[t][group];
        __m256i dot;
#pragma GCC unroll 2
        for (int first = 0; first < kDwords; first += kDwordsPerSum) {
          __m256i words =
              _mm256_maddubs_epi16(dwords[first], broadcast_dword(x_group.low + 4 * first));
#pragma GCC unroll 8
          for (int i = first + 1; i < first + kDwordsPerSum; ++i) {
            words = _mm256_add_epi16(
                words, _mm256_maddubs_epi16(dwords[i], broadcast_dword(x_group.low + 4 * i)));
          }
          const __m256i part = _mm256_madd_epi16(words, _mm256_set1_epi16(1));
          dot = first == 0 ? part : _mm256_add_epi32(dot, part);
        }
        sums[t] =
            accumulate_group<G, kAccum>(sums[t], dot, in_memory, w.scale[0], w.offset[0], x_group);
      }
    }
  }
  const OutputRows out(p, row0);
  for (int t = 0; t < kTokens; ++t) out.store(token0 + t, sums[t]);
}

template <class G, AccumType kAccum>
struct Int8 {
  static constexpr int kTileTokens = 4, kGemvRows = 8;
  template <int kRowBlocks>
  using Panel = PanelInt8<kRowBlocks>;

  template <int kTokens>
  static void gemv(const GemmArgs& p, int64_t row0, int64_t token0) {
    gemv_int8<G, kAccum, kTokens>(p, row0, token0);
  }
  template <int kRowBlocks>
  static void pack(const GemmArgs& p, int64_t row0, int64_t at, int count,
                   Panel<kRowBlocks>& panel) {
    pack_int8<G, kRowBlocks>(p, row0, at, count / quant::kQuantGroup, panel);
  }
  template <int kTokens, int kRowBlocks>
  static void tile(const GemmArgs& p, const Panel<kRowBlocks>& panel, int64_t row0, int64_t at,
                   int count, int64_t token0) {
    tile_int8<G, kAccum, kTokens>(p, panel, row0, at, count / quant::kQuantGroup, token0);
  }
};

}  // namespace mxgpt::kernels::avx2
