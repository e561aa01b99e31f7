// Matrix tiles for AVX2, written once for all formats. Included by *_avx2.cpp files only.
//
// A quantized format G has, beside its scalar definition,
//   static Avx2Group load(const Block&, int group);
// and a floating-point format
//   static __m256 load(const Block*);   eight elements
//
// Each (row, token) is summed in one register of eight sums in the order of k whatever the tile's
// size, so that a token's result does not depend on the tokens beside it.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "formats/scalar.h"

namespace mxgpt {

/// A Group in registers: q in element order; scale and offset repeated over the four lanes of each
/// half.
struct Avx2Group {
  __m256i q;
  __m256 scale;
  __m256 offset = _mm256_setzero_ps();
};

namespace avx2 {

inline __m256 halves(float low, float high) {
  return _mm256_set_m128(_mm_set1_ps(high), _mm_set1_ps(low));
}

inline __m256 f16_halves(const uint16_t* two) {
  const __m128 pair = _mm_cvtph_ps(_mm_cvtsi32_si128(two[0] | two[1] << 16));
  return _mm256_set_m128(_mm_permute_ps(pair, 0x55), _mm_permute_ps(pair, 0x00));
}

inline float f16(uint16_t half) {
  return _cvtsh_ss(half);
}

inline float horizontal_sum(__m256 v) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  sum = _mm_add_ss(sum, _mm_movehdup_ps(sum));
  return _mm_cvtss_f32(sum);
}

/// Sums as the accumulator keeps them.
template <Accumulate kAccumulate>
__m256 kept(__m256 sums) {
  if constexpr (kAccumulate == Accumulate::f16)
    return _mm256_cvtph_ps(_mm256_cvtps_ph(sums, _MM_FROUND_TO_NEAREST_INT));
  else
    return sums;
}

/// One number from the eight sums of a result and that of its tail.
template <Accumulate kAccumulate>
float result(__m256 sums, float tail = 0) {
  const auto keep = [](__m256 v) { return kept<kAccumulate>(v); };
  const float sum = horizontal_sum(keep(sums)) + _mm256_cvtss_f32(keep(_mm256_set1_ps(tail)));
  return _mm256_cvtss_f32(keep(_mm256_set1_ps(sum)));
}

inline __m256i load32(const void* bytes) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(bytes));
}

/// The low nibbles of 16 bytes, then their high nibbles.
inline __m256i nibbles(const uint8_t* bytes) {
  const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(packed, 4), packed),
                          _mm256_set1_epi8(0xf));
}

inline __m256i look_up(const int8_t (&table)[16], __m256i indices) {
  const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), indices);
}

/// Byte i is 0xFF where bit i of the 32 bits (little-endian) is set, else 0.
inline __m256i bit_masks(const uint8_t* bits) {
  int32_t word;
  std::memcpy(&word, bits, sizeof(word));
  const __m256i byte_of =
      _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(word), byte_of);
  return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
}

/// The weights of a group in 16 bits, in the order of q16_place: lanes of `low` and `high` belong
/// to the half of the group that the lanes of a scale belong to.
struct Widened {
  __m256i low, high;
  explicit Widened(__m256i q)
      : low(_mm256_srai_epi16(_mm256_unpacklo_epi8(q, q), 8)),
        high(_mm256_srai_epi16(_mm256_unpackhi_epi8(q, q), 8)) {}

  /// Σ over fours of w · x, as eight int32. Four products of 2^7 · 2^15 stay below 2^24, which f32
  /// holds exactly.
  __m256i dot(const int16_t* x) const {
    return _mm256_add_epi32(_mm256_madd_epi16(low, load32(x)),
                            _mm256_madd_epi16(high, load32(x + 16)));
  }
};

/// The first of the rows of a tile, and the prefetching of weights that few tokens read, once: the
/// hardware stops at the end of a page, so the bytes of the next tile are asked for while this one
/// runs.
template <class Block, int kRows>
struct RowPointers {
  const std::byte* first;
  int64_t row_bytes;
  int64_t ahead;

  RowPointers(const MatmulTile& p, int64_t row0)
      : first(p.weights + row0 * p.row_bytes),
        row_bytes(p.row_bytes),
        ahead(std::max<int64_t>(kRows * p.row_bytes, 4096)) {}
  const Block* operator[](int r) const {
    return reinterpret_cast<const Block*>(first + r * row_bytes);
  }
  void prefetch(int r, int64_t byte) const {
    // As an integer: past the last row the address means nothing, which a prefetch does not mind.
    const auto address = reinterpret_cast<uintptr_t>(first) + r * row_bytes + byte + ahead;
    _mm_prefetch(reinterpret_cast<const char*>(address), _MM_HINT_T0);
  }
};

/// kRows × kTokens results, 16-bit activations. Flattened: whether `load` is inlined must not hang
/// on the compiler.
template <class G, Accumulate kAccumulate, int kRows, int kTokens>
[[gnu::flatten]] void tile_q16(const MatmulTile& p, int64_t row0, int64_t token0) {
  using Block = typename G::Block;
  const RowPointers<Block, kRows> rows(p, row0);
  int64_t x_at[kTokens];
  for (int t = 0; t < kTokens; ++t) x_at[t] = x_row(p, token0 + t) * p.k;
  __m256 sums[kRows][kTokens];
  for (auto& row : sums)
    for (auto& sum : row) sum = _mm256_setzero_ps();

  constexpr int kGroups = G::kElements / kGroup;
  for (int64_t at = 0; at < p.k;) {
    const int64_t block = at / G::kElements;
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g, at += kGroup) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        if constexpr (kTokens < 3) rows.prefetch(r, (at * int64_t{sizeof(Block)}) / G::kElements);
        const Avx2Group w = G::load(rows[r][block], g);
        const Widened widened(w.q);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          const int64_t x = x_at[t] + at;
          const __m256 dot = _mm256_cvtepi32_ps(widened.dot(p.x16.q + x));
          const __m256 scale = _mm256_mul_ps(w.scale, _mm256_set1_ps(p.x16.scale[x / kGroup]));
          sums[r][t] = _mm256_fmadd_ps(scale, dot, sums[r][t]);
          if constexpr (G::kOffset) {
            // A quarter in each lane of a half: the four lanes are added up in the end.
            const float* sum = p.x16.sum + x / 16;
            const __m256 x_sum = _mm256_mul_ps(halves(sum[0], sum[1]), _mm256_set1_ps(0.25f));
            sums[r][t] = _mm256_fmadd_ps(w.offset, x_sum, sums[r][t]);
          }
          sums[r][t] = kept<kAccumulate>(sums[r][t]);
        }
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int r = 0; r < kRows; ++r) {
      p.out[(token0 + t) * p.out_stride + row0 + r] = result<kAccumulate>(sums[r][t]);
    }
  }
}

/// Elements 8i to 8i + 7 of a group, bit-equal to the scalar ones.
template <class G>
inline __m256 eight_values(const Avx2Group& w, int i) {
  const __m128i half = i < 2 ? _mm256_castsi256_si128(w.q) : _mm256_extracti128_si256(w.q, 1);
  const __m128i eight = i % 2 ? _mm_srli_si128(half, 8) : half;
  const auto of_half = [i](__m256 v) {
    return i < 2 ? _mm256_permute2f128_ps(v, v, 0x00) : _mm256_permute2f128_ps(v, v, 0x11);
  };
  const __m256 product =
      _mm256_mul_ps(of_half(w.scale), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight)));
  if constexpr (G::kOffset)
    return _mm256_add_ps(product, of_half(w.offset));
  else
    return product;
}

/// kRows × kTokens results, f32 activations.
template <class G, Accumulate kAccumulate, int kRows, int kTokens>
[[gnu::flatten]] void tile_f32(const MatmulTile& p, int64_t row0, int64_t token0) {
  using Block = typename G::Block;
  const RowPointers<Block, kRows> rows(p, row0);
  const float* x[kTokens];
  for (int t = 0; t < kTokens; ++t) x[t] = p.x + x_row(p, token0 + t) * p.k;
  __m256 sums[kRows][kTokens];
  for (auto& row : sums)
    for (auto& sum : row) sum = _mm256_setzero_ps();
  float tails[kRows][kTokens] = {};

  if constexpr (QuantizedFormat<G>) {
    for (int64_t at = 0; at < p.k; at += kGroup) {
      for (int r = 0; r < kRows; ++r) {
        if constexpr (kTokens < 3) rows.prefetch(r, (at * int64_t{sizeof(Block)}) / G::kElements);
        const Avx2Group w =
            G::load(rows[r][at / G::kElements], static_cast<int>(at % G::kElements) / kGroup);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const __m256 value = eight_values<G>(w, i);
          for (int t = 0; t < kTokens; ++t) {
            sums[r][t] = _mm256_fmadd_ps(value, _mm256_loadu_ps(x[t] + at + i * 8), sums[r][t]);
          }
        }
        for (int t = 0; t < kTokens; ++t) sums[r][t] = kept<kAccumulate>(sums[r][t]);
      }
    }
  } else {
    int64_t at = 0;
    for (; at + 8 <= p.k; at += 8) {
      for (int r = 0; r < kRows; ++r) {
        if constexpr (kTokens < 3) rows.prefetch(r, at * int64_t{sizeof(Block)});
        const __m256 value = G::load(rows[r] + at);
        for (int t = 0; t < kTokens; ++t) {
          sums[r][t] = _mm256_fmadd_ps(value, _mm256_loadu_ps(x[t] + at), sums[r][t]);
          if (at % kGroup == kGroup - 8) sums[r][t] = kept<kAccumulate>(sums[r][t]);
        }
      }
    }
    for (; at < p.k; ++at) {
      for (int r = 0; r < kRows; ++r) {
        for (int t = 0; t < kTokens; ++t) tails[r][t] += G::value(rows[r][at]) * x[t][at];
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int r = 0; r < kRows; ++r) {
      p.out[(token0 + t) * p.out_stride + row0 + r] = result<kAccumulate>(sums[r][t], tails[r][t]);
    }
  }
}

/// As many tokens from `token` on as kTokens divides, and the first after them.
template <class Tile, Accumulate kAccumulate, int kRows, int kTokens>
int64_t tiles(const MatmulTile& p, int64_t token) {
  for (; token + kTokens <= p.tokens; token += kTokens) {
    int64_t row = 0;
    for (; row + kRows <= p.rows; row += kRows)
      Tile::template run<kAccumulate, kRows, kTokens>(p, row, token);
    for (; row < p.rows; ++row) Tile::template run<kAccumulate, 1, kTokens>(p, row, token);
  }
  return token;
}

/// To unpack a row costs as much as its products with some tokens, so up to eight share it. A row
/// of floats is only loaded: there, twelve sums and what they are made of fill the sixteen
/// registers best. Sums in f16 save no time on this instruction set, so few tiles do.
template <class Tile, bool unpacks>
void matmul(const MatmulTile& p) {
  using enum Accumulate;
  int64_t token = 0;
  if (p.accumulate == f16) {
    token = tiles<Tile, f16, 1, 4>(p, token);
    tiles<Tile, f16, 1, 1>(p, token);
    return;
  }
  if constexpr (unpacks) {
    token = tiles<Tile, f32, 1, 8>(p, token);
    token = tiles<Tile, f32, 1, 4>(p, token);
  } else {
    token = tiles<Tile, f32, 4, 3>(p, token);
  }
  token = tiles<Tile, f32, 4, 2>(p, token);
  tiles<Tile, f32, 4, 1>(p, token);
}

template <class G>
struct TileF32 {
  template <Accumulate kAccumulate, int kRows, int kTokens>
  static void run(const MatmulTile& p, int64_t row0, int64_t token0) {
    tile_f32<G, kAccumulate, kRows, kTokens>(p, row0, token0);
  }
};

template <class G>
struct TileQ16 {
  template <Accumulate kAccumulate, int kRows, int kTokens>
  static void run(const MatmulTile& p, int64_t row0, int64_t token0) {
    tile_q16<G, kAccumulate, kRows, kTokens>(p, row0, token0);
  }
};

template <class G>
constexpr Kernels kernels_of() {
  Kernels kernels{.matmul_f32 = matmul<TileF32<G>, QuantizedFormat<G>>, .matmul_q16 = nullptr};
  if constexpr (QuantizedFormat<G>) kernels.matmul_q16 = matmul<TileQ16<G>, true>;
  return kernels;
}

}  // namespace avx2
}  // namespace mxgpt

/// In formats/<folder>/<folder>_avx2.cpp, for the format G with its AVX2 `load`.
#define MXGPT_DEFINE_AVX2(folder, G)                                           \
  namespace mxgpt::formats {                                                   \
  extern constinit const Kernels folder##_avx2 = mxgpt::avx2::kernels_of<G>(); \
  }
