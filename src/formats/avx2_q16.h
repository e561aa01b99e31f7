// Matrix products for AVX2 with 16-bit activations; see avx2_matmul.h.
#pragma once

#include "formats/avx2_rows.h"

namespace mxgpt::avx2 {

/// Activations of one token.
struct X16 {
  const int16_t* q;
  const float* scale;
  const float* sum;
  const int32_t* total;
  const ByteGroup* bytes;

  X16() = default;
  X16(const MatmulTile& p, int64_t token) {
    const int64_t groups = x_row(p, token) * (p.k / kGroup);
    q = p.x16.q + groups * kGroup;
    scale = p.x16.scale + groups;
    sum = p.x16.sum + 2 * groups;
    total = p.x16.total + 2 * groups;
    bytes = p.x16.bytes + groups;
  }
};

inline __m256 add_product(__m256 sums, __m256i dot, __m256 w_scale, float x_scale) {
  return _mm256_fmadd_ps(_mm256_mul_ps(w_scale, _mm256_set1_ps(x_scale)), _mm256_cvtepi32_ps(dot),
                         sums);
}

/// What an offset is multiplied by: part s of the group whose sums of activations, two, are at
/// `sum`.
template <int kScales>
__m256 offset_factor(const float* sum, int s) {
  return _mm256_set1_ps(kScales == 1 ? sum[0] + sum[1] : sum[s]);
}

/// Eight rows with kTokens. Flattened: whether `load` is inlined must not hang on the compiler.
template <class G, Accumulate kAccumulate, int kTokens>
[[gnu::flatten]] void gemv_q16(const MatmulTile& p, int64_t row0, int64_t token0) {
  constexpr int kScales = G::kScales;
  const Octet<G> rows(p, row0);
  X16 x[kTokens];
  __m256 sums[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    x[t] = X16(p, token0 + t);
    sums[t] = _mm256_setzero_ps();
  }
  const int64_t all_groups = p.k / kGroup;
  for (int64_t first = 0; first < all_groups; first += kSpanGroups) {
    const int groups = static_cast<int>(std::min<int64_t>(kSpanGroups, all_groups - first));
    const RowScales<G> scales(rows, first * kGroup);
    for (int g = 0; g < groups; ++g) {
      const int64_t group = first + g;
      const Avx2Scales w = scales.of_group(g);
      rows.prefetch_next(group * kGroup);
      __m256i dots[kTokens][kScales][4];
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        const Avx2Pair pair = load_pair(rows, r, group * kGroup);
        const __m256i words[] = {even_bytes(pair.low), odd_bytes(pair.low), even_bytes(pair.high),
                                 odd_bytes(pair.high)};
#pragma GCC unroll 3
        for (int t = 0; t < kTokens; ++t) {
          __m256i products[4];
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) {
            const __m128i eight =
                _mm_loadu_si128(reinterpret_cast<const __m128i*>(x[t].q + group * kGroup) + i);
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
            const int32_t of_part = kScales == 1 ? total[0] + total[1] : total[s];
            dot = _mm256_sub_epi32(dot, _mm256_set1_epi32(G::kBias * of_part));
          }
          sums[t] = add_product(sums[t], dot, w.scale[s], x[t].scale[group]);
        }
        if constexpr (G::kOffset) {
#pragma GCC unroll 2
          for (int s = 0; s < kScales; ++s)
            sums[t] = _mm256_fmadd_ps(w.offset[s], offset_factor<kScales>(x[t].sum + 2 * group, s),
                                      sums[t]);
        }
        sums[t] = kept<kAccumulate>(sums[t]);
      }
    }
  }
  const OutRows out(p, row0);
  for (int t = 0; t < kTokens; ++t) out.store(token0 + t, sums[t]);
}

/// kOctets · 8 rows by up to 256 elements; lane = row. A dword holds a pair of elements that
/// q16_place makes neighbours.
template <int kOctets, int kScales, bool kOffset>
struct PanelQ16 {
  __m256i pairs[kSpanGroups][kGroup / 2][kOctets];
  __m256 scale[kSpanGroups][kScales][kOctets];
  __m256 offset[kSpanGroups][kScales][kOctets];  ///< unset without kOffset
};

template <class G, int kOctets>
[[gnu::flatten]] void pack_q16(const MatmulTile& p, int64_t row0, int64_t at, int groups,
                               PanelQ16<kOctets, G::kScales, G::kOffset>& panel) {
  for (int o = 0; o < kOctets; ++o) {
    const Octet<G> rows(p, row0 + o * 8);
    const RowScales<G> scales(rows, at);
    for (int g = 0; g < groups; ++g) {
      const Avx2Scales w = scales.of_group(g);
      for (int s = 0; s < G::kScales; ++s) {
        panel.scale[g][s][o] = w.scale[s];
        if constexpr (G::kOffset) panel.offset[g][s][o] = w.offset[s];
      }
      __m256i fours[8];
      load_fours(rows, at + g * kGroup, fours);
      const __m256i bias = _mm256_set1_epi16(G::kBias);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        __m256i* half = panel.pairs[g][i / 4 * 8];
        const int even = (i % 4) * kOctets + o, odd = (i % 4 + 4) * kOctets + o;
        half[even] = _mm256_sub_epi16(even_bytes(fours[i]), bias);
        half[odd] = _mm256_sub_epi16(odd_bytes(fours[i]), bias);
      }
    }
  }
}

/// The panel's rows with kTokens: adds to `out`, or begins there where at = 0.
template <Accumulate kAccumulate, int kTokens, int kOctets, int kScales, bool kOffset>
void tile_q16(const MatmulTile& p, const PanelQ16<kOctets, kScales, kOffset>& panel, int64_t row0,
              int64_t at, int groups, int64_t token0) {
  const auto each = [](auto&& f) {
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
      for (int o = 0; o < kOctets; ++o) f(t, o);
    }
  };
  const int16_t* q[kTokens];
  const float* x_scale[kTokens];
  const float* x_sum[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    const X16 x(p, token0 + t);
    q[t] = x.q + at;
    x_scale[t] = x.scale + at / kGroup;
    x_sum[t] = x.sum + at / 16;
  }
  __m256 sums[kTokens][kOctets];
  each([&](int t, int o) {
    sums[t][o] = at ? OutRows(p, row0 + o * 8).load(token0 + t) : _mm256_setzero_ps();
  });
  for (int g = 0; g < groups; ++g) {
#pragma GCC unroll 2
    for (int s = 0; s < kScales; ++s) {
      __m256i dots[kTokens][kOctets];
      each([&](int t, int o) { dots[t][o] = _mm256_setzero_si256(); });
      constexpr int kPairs = kGroup / 2 / kScales;
#pragma GCC unroll 4
      for (int i = s * kPairs; i < (s + 1) * kPairs; ++i) {
        const auto& w = panel.pairs[g][i];
#pragma GCC unroll 4
        for (int t = 0; t < kTokens; ++t) {
          int32_t pair;
          std::memcpy(&pair, q[t] + g * kGroup + 2 * i, sizeof pair);
          const __m256i x = _mm256_set1_epi32(pair);
#pragma GCC unroll 2
          for (int o = 0; o < kOctets; ++o)
            dots[t][o] = _mm256_add_epi32(dots[t][o], _mm256_madd_epi16(w[o], x));
        }
      }
      each([&](int t, int o) {
        sums[t][o] = add_product(sums[t][o], dots[t][o], panel.scale[g][s][o], x_scale[t][g]);
      });
    }
    if constexpr (kOffset) {
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
        for (int s = 0; s < kScales; ++s) {
          const __m256 x = offset_factor<kScales>(x_sum[t] + 2 * g, s);
#pragma GCC unroll 2
          for (int o = 0; o < kOctets; ++o)
            sums[t][o] = _mm256_fmadd_ps(panel.offset[g][s][o], x, sums[t][o]);
        }
      }
    }
    each([&](int t, int o) { sums[t][o] = kept<kAccumulate>(sums[t][o]); });
  }
  each([&](int t, int o) { OutRows(p, row0 + o * 8).store(token0 + t, sums[t][o]); });
}

template <class G, Accumulate kAccumulate>
struct Q16 {
  /// Six sums: with eight, the compiler keeps one in memory, and waits for it.
  static constexpr int kTileTokens = 3, kGemvRows = 8;
  template <int kOctets>
  using Panel = PanelQ16<kOctets, G::kScales, G::kOffset>;

  template <int kTokens>
  static void gemv(const MatmulTile& p, int64_t row0, int64_t token0) {
    gemv_q16<G, kAccumulate, kTokens>(p, row0, token0);
  }
  template <int kOctets>
  static void pack(const MatmulTile& p, int64_t row0, int64_t at, int count,
                   Panel<kOctets>& panel) {
    pack_q16<G, kOctets>(p, row0, at, count / kGroup, panel);
  }
  template <int kTokens, int kOctets>
  static void tile(const MatmulTile& p, const Panel<kOctets>& panel, int64_t row0, int64_t at,
                   int count, int64_t token0) {
    tile_q16<kAccumulate, kTokens>(p, panel, row0, at, count / kGroup, token0);
  }
};

}  // namespace mxgpt::avx2
