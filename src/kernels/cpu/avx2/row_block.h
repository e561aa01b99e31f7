// A row block: eight rows of weights in AVX2 registers, one row per 32-bit lane (NR = 8).
#pragma once

#include "kernels/cpu/avx2/unpack.h"

namespace mxgpt::kernels::avx2 {

inline constexpr int kPanelK = 256;  ///< KC: elements along k per packed panel
inline constexpr int kPanelGroups = kPanelK / quant::kQuantGroup;

/// Rounds running sums to the accumulator's type.
template <AccumType kAccum>
__m256 round_accumulator(__m256 sums) {
  if constexpr (kAccum == AccumType::f16)
    return _mm256_cvtph_ps(_mm256_cvtps_ph(sums, _MM_FROUND_TO_NEAREST_INT));
  else
    return sums;
}

/// Eight rows from row0 on. Rows past the last repeat the last.
template <class G>
class RowBlock {
 public:
  using Block = typename G::Block;

  RowBlock(const GemmArgs& p, int64_t row0)
      : next_(reinterpret_cast<uintptr_t>(p.weights) + (row0 + 8) * p.row_bytes) {
    for (int r = 0; r < 8; ++r) row_[r] = p.weights + min_of(row0 + r, p.rows - 1) * p.row_bytes;
  }
  /// The block of row r that contains element `at`; for floating-point formats, element `at`.
  const Block* block(int r, int64_t at) const {
    return reinterpret_cast<const Block*>(row_[r]) + at / quant::elements_per_block<G>();
  }
  /// Prefetches as many bytes of the next eight rows as the group at `at` has in these. Rows are
  /// contiguous, and the hardware prefetcher stops at the end of a page. Addresses past the last
  /// row are harmless.
  void prefetch_next(int64_t at) const {
    constexpr int kBytes = 8 * quant::kQuantGroup * sizeof(Block) / quant::elements_per_block<G>();
    const uintptr_t next = next_ + at / quant::kQuantGroup * kBytes;
#pragma GCC unroll 16
    for (int i = 0; i < kBytes; i += 64)
      _mm_prefetch(reinterpret_cast<const char*>(next + i), _MM_HINT_T0);
  }

 private:
  const std::byte* row_[8];
  uintptr_t next_;
};

/// v[i] lane j = v[j] lane i
inline void transpose(__m256 (&v)[8]) {
  __m256 pairs[8], quads[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    v[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

/// In each 128-bit lane: v[i] dword j = v[j] dword i.
inline void transpose_lanes(__m256i (&v)[4]) {
  const __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpackhi_epi32(v[0], v[1]);
  const __m256i c = _mm256_unpacklo_epi32(v[2], v[3]), d = _mm256_unpackhi_epi32(v[2], v[3]);
  v[0] = _mm256_unpacklo_epi64(a, c);
  v[1] = _mm256_unpackhi_epi64(a, c);
  v[2] = _mm256_unpacklo_epi64(b, d);
  v[3] = _mm256_unpackhi_epi64(b, d);
}

/// Scales and offsets of a row block from element `at` on, up to kPanelK elements; lane = row.
/// Empty for floating-point formats.
template <class G>
class RowScales {
 public:
  RowScales(const RowBlock<G>&, int64_t) {}
};

template <quant::QuantizedFormat G>
class RowScales<G> {
  static constexpr bool kPerBlock = G::kElements == kPanelK;  // read once per block

 public:
  RowScales(const RowBlock<G>& rows, int64_t at) : rows_(rows), at_(at) {
    if constexpr (kPerBlock) {
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) {
        const GroupScales of_row = G::scales(*rows.block(r, at));
#pragma GCC unroll 2
        for (int s = 0; s < G::kScales; ++s) {
          scale_[s][r] = of_row.scale[s];
          if constexpr (G::kHasOffset) offset_[s][r] = of_row.offset[s];
        }
      }
      for (auto& eight : scale_) transpose(eight);
      if constexpr (G::kHasOffset) {
        for (auto& eight : offset_) transpose(eight);
      }
    }
  }

  GroupScales for_group(int g) const {
    if constexpr (kPerBlock) {
      GroupScales scales;
#pragma GCC unroll 2
      for (int s = 0; s < G::kScales; ++s) {
        scales.scale[s] = scale_[s][g];
        if constexpr (G::kHasOffset) scales.offset[s] = offset_[s][g];
      }
      return scales;
    } else {
      return G::scales([&](int r) -> const typename G::Block& {
        return *rows_.block(r, at_ + g * quant::kQuantGroup);
      });
    }
  }

 private:
  const RowBlock<G>& rows_;
  int64_t at_;
  __m256 scale_[kPerBlock ? G::kScales : 0][8];
  __m256 offset_[kPerBlock && G::kHasOffset ? G::kScales : 0][8];
};

/// The group at `at` of rows r and r + 4.
template <class G>
RowPair load_row_pair(const RowBlock<G>& rows, int r, int64_t at) {
  return G::load(*rows.block(r, at), *rows.block(r + 4, at),
                 static_cast<int>(at % G::kElements) / quant::kQuantGroup);
}

/// A format whose group is 16 bytes of nibbles, the low ones first. `bytes` maps nibbles to
/// q + kBias, so they can be transposed before they are expanded.
template <class G>
concept NibbleFormat = requires(__m256i nibbles, const typename G::Block& block) {
  G::bytes(nibbles);
  block.nibbles;
};

/// The bytes of a group of eight rows, transposed: lane = row, dword i holds elements 4i to
/// 4i + 3.
template <class G>
void load_transposed(const RowBlock<G>& rows, int64_t at, __m256i (&dwords)[8]) {
  __m256i low[4], high[4];
  if constexpr (NibbleFormat<G>) {
    __m256i packed[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r)
      packed[r] = load_2x128(rows.block(r, at)->nibbles, rows.block(r + 4, at)->nibbles);
    transpose_lanes(packed);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      low[i] = G::bytes(low_nibbles(packed[i]));
      high[i] = G::bytes(high_nibbles(packed[i]));
    }
  } else {
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const RowPair w = load_row_pair(rows, r, at);
      low[r] = w.low;
      high[r] = w.high;
    }
    transpose_lanes(low);
    transpose_lanes(high);
  }
  for (int i = 0; i < 4; ++i) {
    dwords[i] = low[i];
    dwords[i + 4] = high[i];
  }
}

inline __m256i even_bytes(__m256i v) {
  return _mm256_and_si256(v, _mm256_set1_epi16(0xff));
}
inline __m256i odd_bytes(__m256i v) {
  return _mm256_srli_epi16(v, 8);
}

/// Mask of the lanes below `rows`.
inline __m256i lanes_below(int64_t rows) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(min_of<int64_t>(rows, 8))),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/// The results of a row block per token; lanes of rows past the last are masked.
struct OutputRows {
  float* out;
  int64_t stride, rows;

  OutputRows(const GemmArgs& p, int64_t row0)
      : out(p.out + row0), stride(p.out_stride), rows(p.rows - row0) {}
  __m256 load(int64_t token) const {
    const float* at = out + token * stride;
    return rows >= 8 ? _mm256_loadu_ps(at) : _mm256_maskload_ps(at, lanes_below(rows));
  }
  void store(int64_t token, __m256 sums) const {
    float* at = out + token * stride;
    rows >= 8 ? _mm256_storeu_ps(at, sums) : _mm256_maskstore_ps(at, lanes_below(rows), sums);
  }
};

}  // namespace mxgpt::kernels::avx2
