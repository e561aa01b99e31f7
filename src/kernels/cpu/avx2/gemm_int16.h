// AVX2 micro-kernels for 16-bit activations; see gemm.h.
#pragma once

#include "kernels/cpu/avx2/row_block.h"

namespace mxgpt::kernels::avx2 {

/// The activations of one token.
struct TokenActivations {
  const int16_t* q;
  const float* scale;
  const float* sum;
  const int32_t* total;
  const OutlierSplitGroup* bytes;

  TokenActivations() = default;
  TokenActivations(const GemmArgs& p, int64_t token) {
    const int64_t groups = activation_row(p, token) * (p.k / quant::kQuantGroup);
    q = p.x_int16.q + groups * quant::kQuantGroup;
    scale = p.x_int16.scale + groups;
    sum = p.x_int16.sum + 2 * groups;
    total = p.x_int16.q_sum + 2 * groups;
    bytes = p.x_int16.outlier_split + groups;
  }
};

inline __m256 accumulate_scaled(__m256 sums, __m256i dot, __m256 w_scale, float x_scale) {
  return _mm256_fmadd_ps(_mm256_mul_ps(w_scale, _mm256_set1_ps(x_scale)), _mm256_cvtepi32_ps(dot),
                         sums);
}

/// The factor of offset s of a group: the sum of its activations, or of half s. `sum` points to the
/// sums of the group's two halves.
template <int kScales>
__m256 offset_input(const float* sum, int s) {
  return _mm256_set1_ps(kScales == 1 ? sum[0] + sum[1] : sum[s]);
}

/// GEMV of eight rows with kTokens tokens. Flattened, so that `load` is inlined whatever the
/// compiler's heuristics say.
template <class G, AccumType kAccum, int kTokens>
[[gnu::flatten]] void gemv_int16(const GemmArgs& p, int64_t row0, int64_t token0) {
  constexpr int kScales = G::kScales;
  const RowBlock<G> rows(p, row0);
  TokenActivations x[kTokens];
  __m256 sums[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    x[t] = TokenActivations(p, token0 + t);
    sums[t] = _mm256_setzero_ps();
  }
  const int64_t all_groups = p.k / quant::kQuantGroup;
  for (int64_t first = 0; first < all_groups; first += kPanelGroups) {
    const int groups = static_cast<int>(min_of<int64_t>(kPanelGroups, all_groups - first));
    const RowScales<G> scales(rows, first * quant::kQuantGroup);
    for (int g = 0; g < groups; ++g) {
      const int64_t group = first + g;
      const GroupScales w = scales.for_group(g);
      rows.prefetch_next(group * quant::kQuantGroup);
      __m256i dots[kTokens][kScales][4];
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        const RowPair pair = load_row_pair(rows, r, group * quant::kQuantGroup);
        const __m256i words[] = {even_bytes(pair.low), odd_bytes(pair.low), even_bytes(pair.high),
                                 odd_bytes(pair.high)};
#pragma GCC unroll 3
        for (int t = 0; t < kTokens; ++t) {
          __m256i products[4];
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) {
            const __m128i eight = _mm_loadu_si128(
                reinterpret_cast<const __m128i*>(x[t].q + group * quant::kQuantGroup) + i);
            products[i] = _mm256_madd_epi16(words[i], _mm256_broadcastsi128_si256(eight));
          }
          const __m256i low = _mm256_add_epi32(products[0], products[1]);
          const __m256i high = _mm256_add_epi32(products[2], products[3]);
          if constexpr (kScales == 1) {
            dots[t][0][r] = _mm256_add_epi32(low, high);
          } else {
            dots[t][0][r] = low;
            dots[t][1][r] = high;
          }
        }
      }
#pragma GCC unroll 3
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
        for (int s = 0; s < kScales; ++s) {
          const auto& d = dots[t][s];
          __m256i dot =
              _mm256_hadd_epi32(_mm256_hadd_epi32(d[0], d[1]), _mm256_hadd_epi32(d[2], d[3]));
          if constexpr (G::kBias != 0) {
            const int32_t* total = x[t].total + 2 * group;
            const int32_t x_total = kScales == 1 ? total[0] + total[1] : total[s];
            dot = _mm256_sub_epi32(dot, _mm256_set1_epi32(G::kBias * x_total));
          }
          sums[t] = accumulate_scaled(sums[t], dot, w.scale[s], x[t].scale[group]);
        }
        if constexpr (G::kHasOffset) {
#pragma GCC unroll 2
          for (int s = 0; s < kScales; ++s)
            sums[t] = _mm256_fmadd_ps(w.offset[s], offset_input<kScales>(x[t].sum + 2 * group, s),
                                      sums[t]);
        }
        sums[t] = round_accumulator<kAccum>(sums[t]);
      }
    }
  }
  const OutputRows out(p, row0);
  for (int t = 0; t < kTokens; ++t) out.store(token0 + t, sums[t]);
}

/// Packed panel of kRowBlocks · 8 rows by up to kPanelK elements; lane = row. A dword holds two
/// elements that interleaved_index makes adjacent.
template <int kRowBlocks, int kScales, bool kHasOffset>
struct PanelInt16 {
  __m256i pairs[kPanelGroups][quant::kQuantGroup / 2][kRowBlocks];
  __m256 scale[kPanelGroups][kScales][kRowBlocks];
  __m256 offset[kPanelGroups][kScales][kRowBlocks];  ///< unset without kHasOffset
};

template <class G, int kRowBlocks>
[[gnu::flatten]] void pack_int16(const GemmArgs& p, int64_t row0, int64_t at, int groups,
                                 PanelInt16<kRowBlocks, G::kScales, G::kHasOffset>& panel) {
  for (int o = 0; o < kRowBlocks; ++o) {
    const RowBlock<G> rows(p, row0 + o * 8);
    const RowScales<G> scales(rows, at);
    for (int g = 0; g < groups; ++g) {
      const GroupScales w = scales.for_group(g);
      for (int s = 0; s < G::kScales; ++s) {
        panel.scale[g][s][o] = w.scale[s];
        if constexpr (G::kHasOffset) panel.offset[g][s][o] = w.offset[s];
      }
      __m256i dwords[8];
      load_transposed(rows, at + g * quant::kQuantGroup, dwords);
      const __m256i bias = _mm256_set1_epi16(G::kBias);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        __m256i* half = panel.pairs[g][i / 4 * 8];
        const int even = (i % 4) * kRowBlocks + o, odd = (i % 4 + 4) * kRowBlocks + o;
        half[even] = _mm256_sub_epi16(even_bytes(dwords[i]), bias);
        half[odd] = _mm256_sub_epi16(odd_bytes(dwords[i]), bias);
      }
    }
  }
}

/// Micro-kernel: the panel's rows with kTokens tokens. Adds to `out`, or overwrites it if at = 0.
template <AccumType kAccum, int kTokens, int kRowBlocks, int kScales, bool kHasOffset>
void tile_int16(const GemmArgs& p, const PanelInt16<kRowBlocks, kScales, kHasOffset>& panel,
                int64_t row0, int64_t at, int groups, int64_t token0) {
  const auto each = [](auto&& f) {
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
      for (int o = 0; o < kRowBlocks; ++o) f(t, o);
    }
  };
  const int16_t* q[kTokens];
  const float* x_scale[kTokens];
  const float* x_sum[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    const TokenActivations x(p, token0 + t);
    q[t] = x.q + at;
    x_scale[t] = x.scale + at / quant::kQuantGroup;
    x_sum[t] = x.sum + at / 16;
  }
  __m256 sums[kTokens][kRowBlocks];
  each([&](int t, int o) {
    sums[t][o] = at ? OutputRows(p, row0 + o * 8).load(token0 + t) : _mm256_setzero_ps();
  });
  for (int g = 0; g < groups; ++g) {
#pragma GCC unroll 2
    for (int s = 0; s < kScales; ++s) {
      __m256i dots[kTokens][kRowBlocks];
      each([&](int t, int o) { dots[t][o] = _mm256_setzero_si256(); });
      constexpr int kPairs = quant::kQuantGroup / 2 / kScales;
#pragma GCC unroll 4
      for (int i = s * kPairs; i < (s + 1) * kPairs; ++i) {
        const auto& w = panel.pairs[g][i];
#pragma GCC unroll 4
        for (int t = 0; t < kTokens; ++t) {
          int32_t pair;
          std::memcpy(&pair, q[t] + g * quant::kQuantGroup + 2 * i, sizeof pair);
          const __m256i x = _mm256_set1_epi32(pair);
#pragma GCC unroll 2
          for (int o = 0; o < kRowBlocks; ++o)
            dots[t][o] = _mm256_add_epi32(dots[t][o], _mm256_madd_epi16(w[o], x));
        }
      }
      each([&](int t, int o) {
        sums[t][o] = accumulate_scaled(sums[t][o], dots[t][o], panel.scale[g][s][o], x_scale[t][g]);
      });
    }
    if constexpr (kHasOffset) {
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
        for (int s = 0; s < kScales; ++s) {
          const __m256 x = offset_input<kScales>(x_sum[t] + 2 * g, s);
#pragma GCC unroll 2
          for (int o = 0; o < kRowBlocks; ++o)
            sums[t][o] = _mm256_fmadd_ps(panel.offset[g][s][o], x, sums[t][o]);
        }
      }
    }
    each([&](int t, int o) { sums[t][o] = round_accumulator<kAccum>(sums[t][o]); });
  }
  each([&](int t, int o) { OutputRows(p, row0 + o * 8).store(token0 + t, sums[t][o]); });
}

template <class G, AccumType kAccum>
struct Int16 {
  /// Six sums of two row blocks. With eight, the compiler spills one and waits for it.
  static constexpr int kTileTokens = 3, kGemvRows = 8;
  template <int kRowBlocks>
  using Panel = PanelInt16<kRowBlocks, G::kScales, G::kHasOffset>;

  template <int kTokens>
  static void gemv(const GemmArgs& p, int64_t row0, int64_t token0) {
    gemv_int16<G, kAccum, kTokens>(p, row0, token0);
  }
  template <int kRowBlocks>
  static void pack(const GemmArgs& p, int64_t row0, int64_t at, int count,
                   Panel<kRowBlocks>& panel) {
    pack_int16<G, kRowBlocks>(p, row0, at, count / quant::kQuantGroup, panel);
  }
  template <int kTokens, int kRowBlocks>
  static void tile(const GemmArgs& p, const Panel<kRowBlocks>& panel, int64_t row0, int64_t at,
                   int count, int64_t token0) {
    tile_int16<kAccum, kTokens>(p, panel, row0, at, count / quant::kQuantGroup, token0);
  }
};

}  // namespace mxgpt::kernels::avx2
