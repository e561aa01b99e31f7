// Matrix products for AVX2 with 16-bit activations that are cut into bytes (ByteGroup); see
// avx2_matmul.h. Weights are unsigned bytes here, q + kBias, so small that several products of them
// with low bytes of activations add up in 16 bits. Of the high bytes, two quads of a group are
// multiplied, wherever they are. The integers that come out are those of avx2_q16.h.
#pragma once

#include "formats/avx2_q16.h"

namespace mxgpt::avx2 {

/// kOctets · 8 rows by up to 256 elements; lane = row. A dword holds a quad.
template <int kOctets>
struct PanelBytes {
  __m256i quads[kSpanGroups][kOctets][kGroup / 4];
  __m256 scale[kSpanGroups][kOctets];
  __m256 offset[kSpanGroups][kOctets];  ///< unset for formats without
};

template <class G, int kOctets>
[[gnu::flatten]] void pack_bytes(const MatmulTile& p, int64_t row0, int64_t at, int groups,
                                 PanelBytes<kOctets>& panel) {
  for (int o = 0; o < kOctets; ++o) {
    const Octet<G> rows(p, row0 + o * 8);
    const RowScales<G> scales(rows, at);
    for (int g = 0; g < groups; ++g) {
      const Avx2Scales w = scales.of_group(g);
      panel.scale[g][o] = w.scale[0];
      if constexpr (G::kOffset) panel.offset[g][o] = w.offset[0];
      __m256i fours[8];
      load_fours(rows, at + g * kGroup, fours);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) panel.quads[g][o][i] = fours[i];
    }
  }
}

/// Keeps the compiler from computing all products first, for which there are no registers.
inline void settle(__m256i& sum) {
  asm("" : "+x"(sum));
}

inline __m256i broadcast_quad(const int8_t* quad) {
  int32_t dword;
  std::memcpy(&dword, quad, sizeof dword);
  return _mm256_set1_epi32(dword);
}

/// How many quads' products with low bytes add up in 16 bits.
template <class G>
constexpr int quads_in_words() {
  if (G::kRange * kMostLow <= 32767) return kGroup / 4;
  static_assert(4 * 2 * G::kRange * 128 <= 32767);
  return 4;
}

/// Products of a group of eight rows with the quads that have high bytes, times 256.
inline __m256i peaks_of(const __m256i (&quads)[kGroup / 4], const ByteGroup& x) {
  const auto* bytes = reinterpret_cast<const char*>(quads);
  const auto products = [&](int i) {
    const char* at = bytes + x.quad[i] * uint64_t{sizeof(__m256i) / 4};
    return _mm256_maddubs_epi16(_mm256_load_si256(reinterpret_cast<const __m256i*>(at)),
                                broadcast_quad(x.high[i]));
  };
  return _mm256_madd_epi16(_mm256_add_epi16(products(0), products(1)), _mm256_set1_epi16(256));
}

/// Adds a group of eight rows times x, whose products with low bytes are `low`.
template <class G, Accumulate kAccumulate>
__m256 add_group(__m256 sums, __m256i low, const __m256i (&quads)[kGroup / 4], __m256 scale,
                 const __m256& offset, const ByteGroup& x) {
  __m256i dot = _mm256_add_epi32(low, peaks_of(quads, x));
  if constexpr (G::kBias != 0)
    dot = _mm256_sub_epi32(dot, _mm256_set1_epi32(x.total_for(G::kBias)));
  sums = add_product(sums, dot, scale, x.scale);
  if constexpr (G::kOffset) sums = _mm256_fmadd_ps(offset, _mm256_set1_ps(x.sum), sums);
  return kept<kAccumulate>(sums);
}

/// The panel's rows with kTokens: adds to `out`, or begins there where at = 0.
template <class G, Accumulate kAccumulate, int kTokens, int kOctets>
void tile_bytes(const MatmulTile& p, const PanelBytes<kOctets>& panel, int64_t row0, int64_t at,
                int groups, int64_t token0) {
  constexpr int kQuads = kGroup / 4, kInWords = quads_in_words<G>();
  const auto each = [](auto&& f) {
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
      for (int o = 0; o < kOctets; ++o) f(t, o);
    }
  };
  const ByteGroup* x[kTokens];
  for (int t = 0; t < kTokens; ++t) x[t] = X16(p, token0 + t).bytes + at / kGroup;
  __m256 sums[kTokens][kOctets];
  each([&](int t, int o) {
    sums[t][o] = at ? OutRows(p, row0 + o * 8).load(token0 + t) : _mm256_setzero_ps();
  });
  for (int g = 0; g < groups; ++g) {
    const auto& w = panel.quads[g];
    __m256i dots[kTokens][kOctets];
#pragma GCC unroll 2
    for (int first = 0; first < kQuads; first += kInWords) {
      __m256i words[kTokens][kOctets];
#pragma GCC unroll 8
      for (int i = first; i < first + kInWords; ++i) {
#pragma GCC unroll 4
        for (int t = 0; t < kTokens; ++t) {
          const __m256i quad = broadcast_quad(x[t][g].low + 4 * i);
#pragma GCC unroll 2
          for (int o = 0; o < kOctets; ++o) {
            const __m256i products = _mm256_maddubs_epi16(w[o][i], quad);
            words[t][o] = i == first ? products : _mm256_add_epi16(words[t][o], products);
            settle(words[t][o]);
          }
        }
      }
      each([&](int t, int o) {
        const __m256i part = _mm256_madd_epi16(words[t][o], _mm256_set1_epi16(1));
        dots[t][o] = first == 0 ? part : _mm256_add_epi32(dots[t][o], part);
      });
    }
    each([&](int t, int o) {
      sums[t][o] = add_group<G, kAccumulate>(sums[t][o], dots[t][o], w[o], panel.scale[g][o],
                                             panel.offset[g][o], x[t][g]);
    });
  }
  each([&](int t, int o) { OutRows(p, row0 + o * 8).store(token0 + t, sums[t][o]); });
}

/// Eight rows with kTokens, straight from memory.
template <class G, Accumulate kAccumulate, int kTokens>
[[gnu::flatten]] void gemv_bytes(const MatmulTile& p, int64_t row0, int64_t token0) {
  constexpr int kQuads = kGroup / 4, kInWords = quads_in_words<G>();
  const Octet<G> rows(p, row0);
  const ByteGroup* x[kTokens];
  __m256 sums[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    x[t] = X16(p, token0 + t).bytes;
    sums[t] = _mm256_setzero_ps();
  }
  for (int64_t at = 0; at < p.k; at += kSpan) {
    const int groups = static_cast<int>(std::min<int64_t>(kSpan, p.k - at)) / kGroup;
    const RowScales<G> scales(rows, at);
    for (int g = 0; g < groups; ++g) {
      const int64_t group = at / kGroup + g;
      rows.prefetch_next(group * kGroup);
      const Avx2Scales w = scales.of_group(g);
      __m256i quads[kQuads];
      load_fours(rows, group * kGroup, quads);
      alignas(32) __m256i in_memory[kQuads];  // for the two that are multiplied again
#pragma GCC unroll 8
      for (int i = 0; i < kQuads; ++i) in_memory[i] = quads[i];
#pragma GCC unroll 3
      for (int t = 0; t < kTokens; ++t) {
        const ByteGroup& of_x = x[t][group];
        __m256i dot;
#pragma GCC unroll 2
        for (int first = 0; first < kQuads; first += kInWords) {
          __m256i words = _mm256_maddubs_epi16(quads[first], broadcast_quad(of_x.low + 4 * first));
#pragma GCC unroll 8
          for (int i = first + 1; i < first + kInWords; ++i) {
            words = _mm256_add_epi16(
                words, _mm256_maddubs_epi16(quads[i], broadcast_quad(of_x.low + 4 * i)));
          }
          const __m256i part = _mm256_madd_epi16(words, _mm256_set1_epi16(1));
          dot = first == 0 ? part : _mm256_add_epi32(dot, part);
        }
        sums[t] = add_group<G, kAccumulate>(sums[t], dot, in_memory, w.scale[0], w.offset[0], of_x);
      }
    }
  }
  const OutRows out(p, row0);
  for (int t = 0; t < kTokens; ++t) out.store(token0 + t, sums[t]);
}

template <class G, Accumulate kAccumulate>
struct Bytes {
  static constexpr int kTileTokens = 4, kGemvRows = 8;
  template <int kOctets>
  using Panel = PanelBytes<kOctets>;

  template <int kTokens>
  static void gemv(const MatmulTile& p, int64_t row0, int64_t token0) {
    gemv_bytes<G, kAccumulate, kTokens>(p, row0, token0);
  }
  template <int kOctets>
  static void pack(const MatmulTile& p, int64_t row0, int64_t at, int count,
                   Panel<kOctets>& panel) {
    pack_bytes<G, kOctets>(p, row0, at, count / kGroup, panel);
  }
  template <int kTokens, int kOctets>
  static void tile(const MatmulTile& p, const Panel<kOctets>& panel, int64_t row0, int64_t at,
                   int count, int64_t token0) {
    tile_bytes<G, kAccumulate, kTokens>(p, panel, row0, at, count / kGroup, token0);
  }
};

}  // namespace mxgpt::avx2
