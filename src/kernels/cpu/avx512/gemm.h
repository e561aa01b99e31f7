// out = x · Wᵀ with AVX-512 and VNNI. Lane = row: a register holds the sums of sixteen rows with
// one token, in the order of kernels/cpu/gemm.h.
//
// Few tokens (GEMV): weights go from memory through registers once; vpdpbusd multiplies unsigned
// weights by the high and low bytes of the activations. More tokens (GEMM): weights are unpacked
// into packed panels, which packed_panel.h multiplies with all tokens.
#pragma once

#include "kernels/cpu/avx512/packed_panel.h"
#include "kernels/cpu/avx512/unpack.h"

namespace mxgpt::kernels::avx512 {

/// A view of sixteen rows from some element on.
struct RowView {
  const std::byte* first;
  int64_t stride;

  /// The dword at `byte` of each row. 16 · stride must fit in int32.
  __m512i gather(int64_t byte) const {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i at = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(static_cast<int>(stride)));
    return _mm512_i32gather_epi32(at, first + byte, 1);
  }
  template <class Block>
  const Block& block(int row, int64_t at) const {
    return reinterpret_cast<const Block*>(first + row * stride)[at];
  }
};

/// Buffer for a copy of sixteen rows: if fewer are left, or if a row of floats, which is read in
/// units of 16 bytes, ends inside one.
template <int64_t kBytes>
struct PaddedRows {
  alignas(64) std::byte bytes[kLanes][kBytes];
};

/// `bytes` bytes from `at` on of the sixteen rows from `row` on; zeros beyond the tile.
template <class G, int64_t kBytes>
MXGPT_ALWAYS_INLINE RowView view_rows(const GemmArgs& p, int64_t row, int64_t at, int64_t bytes,
                                      PaddedRows<kBytes>& padded) {
  const std::byte* first = p.weights + row * p.row_bytes + at;
  const int64_t rows = p.rows - row;
  const bool inside = quant::QuantizedFormat<G> || at + bytes < p.row_bytes || bytes % 16 == 0;
  if (inside && rows >= kLanes && p.row_bytes <= INT32_MAX / kLanes) return {first, p.row_bytes};
  std::memset(&padded, 0, sizeof padded);
  for (int r = 0; r < min_of<int64_t>(rows, kLanes); ++r)
    std::memcpy(padded.bytes[r], first + r * p.row_bytes, bytes);
  return {padded.bytes[0], kBytes};
}

/// Transposes sixteen rows of four dwords. Before, register i holds rows i, i + 4, i + 8 and i + 12
/// in its 128-bit lanes; after, it holds dword i of all rows in order.
MXGPT_ALWAYS_INLINE void transpose(__m512i (&v)[4]) {
  const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
  const __m512i c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
  v[0] = _mm512_unpacklo_epi64(a, c);
  v[1] = _mm512_unpackhi_epi64(a, c);
  v[2] = _mm512_unpacklo_epi64(b, d);
  v[3] = _mm512_unpackhi_epi64(b, d);
}

/// The sum of the four registers that transpose() yields: per row, the sum of its dwords.
MXGPT_ALWAYS_INLINE __m512i transpose_add(const __m512i (&v)[4]) {
  const __m512i ab =
      _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i cd =
      _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

template <class G>
MXGPT_ALWAYS_INLINE RowQuad load_row_quad(const RowView& rows, int64_t block, int g, int i) {
  using Block = typename G::Block;
  return G::load(rows.block<Block>(i, block), rows.block<Block>(i + 4, block),
                 rows.block<Block>(i + 8, block), rows.block<Block>(i + 12, block), g);
}

template <class G>
inline constexpr int kScaleWordCount = sizeof(G::kScaleWords) / sizeof(int);

template <class G>
MXGPT_ALWAYS_INLINE void gather_scale_words(const RowView& rows, int64_t block,
                                            __m512i (&words)[kScaleWordCount<G>]) {
#pragma GCC unroll 8
  for (int i = 0; i < kScaleWordCount<G>; ++i)
    words[i] = rows.gather(block * int64_t{sizeof(typename G::Block)} + G::kScaleWords[i]);
}

/// Unpacks sixteen rows into a panel, starting at lane `lane`.
template <class G>
[[gnu::flatten]] void unpack(const RowView& rows, int elements, int lane, PackedPanel& panel) {
  constexpr int kGroups = G::kElements / quant::kQuantGroup;
  const __m512i low_bytes = _mm512_set1_epi16(0xff), bias = _mm512_set1_epi16(G::kBias);
  for (int block = 0; block < elements / G::kElements; ++block) {
    __m512i words[kScaleWordCount<G>];
    gather_scale_words<G>(rows, block, words);
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
      const int group = block * kGroups + g;
      __m512i halves[2][4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const RowQuad quad = load_row_quad<G>(rows, block, g, i);
        halves[0][i] = quad.low;
        halves[1][i] = quad.high;
      }
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        transpose(halves[half]);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const __m512i even = _mm512_and_si512(halves[half][i], low_bytes);
          const __m512i odd = _mm512_srli_epi16(halves[half][i], 8);
          int32_t* pair = panel.pairs[group * 16 + half * 8 + i] + lane;
          _mm512_store_si512(pair, _mm512_sub_epi16(even, bias));
          _mm512_store_si512(pair + 4 * kPanelRows, _mm512_sub_epi16(odd, bias));
        }
      }
      const GroupScales s = G::scales(words, g);
      for (int half = 0; half < G::kScales; ++half) {
        _mm512_store_ps(panel.scale[group * G::kScales + half] + lane, s.scale[half]);
        if constexpr (G::kHasOffset)
          _mm512_store_ps(panel.offset[group * G::kScales + half] + lane, s.offset[half]);
      }
    }
  }
}

template <class G>
requires(!quant::QuantizedFormat<G>) [[gnu::flatten]] void unpack(const RowView& rows, int elements,
                                                                  int lane, PackedPanelF32& panel) {
  constexpr int kColumns = 4 / sizeof(typename G::Block);
  for (int at = 0; at < elements; at += 4 * kColumns) {
    __m512i columns[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const std::byte* first =
          rows.first + i * rows.stride + at * int64_t{sizeof(typename G::Block)};
      columns[i] = load_4x128(first, first + 4 * rows.stride, first + 8 * rows.stride,
                              first + 12 * rows.stride);
    }
    transpose(columns);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      __m512 values[kColumns];
      G::values(columns[i], values);
#pragma GCC unroll 2
      for (int j = 0; j < kColumns; ++j)
        _mm512_store_ps(panel.w[at + i * kColumns + j] + lane, values[j]);
    }
  }
}

/// Calls f(coords, panel) for each packed panel of the tile.
template <class G, class AnyPanel, class F>
void for_each_panel(const GemmArgs& p, F f) {
  using Block = typename G::Block;
  constexpr int64_t kBytes = kPanelK / quant::elements_per_block<G>() * int64_t{sizeof(Block)};
  AnyPanel panel;
  PaddedRows<kBytes> padded;
  for (int64_t row = 0; row < p.rows; row += kPanelRows) {
    for (int64_t element = 0; element < p.k; element += kPanelK) {
      const PanelCoords coords{
          .row = row,
          .rows = static_cast<int>(min_of<int64_t>(kPanelRows, p.rows - row)),
          .element = element,
          .elements = static_cast<int>(min_of<int64_t>(kPanelK, p.k - element))};
      for (int lane = 0; lane < coords.rows; lane += kLanes) {
        unpack<G>(
            view_rows<G>(
                p, row + lane, element / quant::elements_per_block<G>() * int64_t{sizeof(Block)},
                coords.elements / quant::elements_per_block<G>() * int64_t{sizeof(Block)}, padded),
            coords.elements, lane, panel);
      }
      f(coords, panel);
    }
  }
}

/// The 16-bit activations of a token as bytes, q = 256 · high + low, which vpdpbusd multiplies by
/// unsigned weights, and the correction -kBias · Σ q for the weights' bias. For formats with one
/// scale per group, the first half holds the correction of both.
template <class G, int kElements>
struct HiLoActivations {
  struct Half {
    int8_t high[16], low[16];
    int32_t correction[4];  ///< [0] only: the four lanes are summed later
  };
  Half half[kElements / 16];

  void set(const int16_t* q, const int32_t* total, int elements) {
    const __m128i byte = _mm_set1_epi16(0xff);
    const auto zipped = [&](__m128i even, __m128i odd) {
      return _mm_or_si128(_mm_and_si128(even, byte), _mm_slli_epi16(odd, 8));
    };
    const auto upper = [](__m128i words) {
      return _mm_srai_epi16(_mm_add_epi16(words, _mm_set1_epi16(128)), 8);
    };
    const auto at = [](void* p) { return static_cast<__m128i*>(p); };
    for (int i = 0; i < elements / 16; ++i, q += 16) {
      const __m128i even = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
      const __m128i odd = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + 8));
      _mm_storeu_si128(at(half[i].high), zipped(upper(even), upper(odd)));
      _mm_storeu_si128(at(half[i].low), zipped(even, odd));
      const bool joined = G::kScales == 1 && i % 2 == 0;
      const int32_t sum = joined ? total[i] + total[i + 1] : total[i];
      _mm_storeu_si128(at(half[i].correction), _mm_cvtsi32_si128(-G::kBias * sum));
    }
  }
};

/// Prefetches the next sixteen rows in the order in which they will be read. The hardware
/// prefetcher handles that many streams poorly and stops at the end of a page.
template <class G>
struct RowPrefetcher {
  static constexpr int64_t kBlockBytes = sizeof(typename G::Block);
  static constexpr int64_t kGroups = G::kElements / quant::kQuantGroup;
  /// Groups per cache line, rounded down.
  static constexpr int64_t kEvery = max_of<int64_t>(1, 64 * kGroups / kBlockBytes);

  // An integer, because the address may lie past the last row. Prefetching it is harmless.
  uintptr_t first;
  int64_t stride;

  MXGPT_ALWAYS_INLINE void group(int64_t g) const {
    if (g % kEvery != 0) return;
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) {
      const uintptr_t at = first + r * stride + g * kBlockBytes / kGroups;
      _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T1);
    }
  }
};

/// Micro-kernel of GEMV: sixteen rows with one token, over `elements` elements.
template <class G, class X>
[[gnu::flatten]] void gemv_rows(const RowView& rows, int elements, const X& x, const float* x_scale,
                                const float* x_sum, const RowPrefetcher<G>& next, __m512& sum) {
  constexpr int kGroups = G::kElements / quant::kQuantGroup;
  const auto broadcast = [](const void* p) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  };
  for (int block = 0; block < elements / G::kElements; ++block) {
    __m512i words[kScaleWordCount<G>];
    gather_scale_words<G>(rows, block, words);
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
      const int group = block * kGroups + g;
      next.group(group);
      const auto& x0 = x.half[group * 2];
      const auto& x1 = x.half[group * 2 + 1];
      __m512i dots[G::kScales][4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const RowQuad w = load_row_quad<G>(rows, block, g, i);
        __m512i high = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w.low, broadcast(x0.high));
        __m512i low = _mm512_dpbusd_epi32(broadcast(x0.correction), w.low, broadcast(x0.low));
        if constexpr (G::kScales == 2) {
          dots[0][i] = _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
          high = _mm512_setzero_si512();
          low = broadcast(x1.correction);
        }
        high = _mm512_dpbusd_epi32(high, w.high, broadcast(x1.high));
        low = _mm512_dpbusd_epi32(low, w.high, broadcast(x1.low));
        dots[G::kScales - 1][i] = _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
      }
      const GroupScales s = G::scales(words, g);
      const __m512 token_scale = _mm512_set1_ps(x_scale[group]);
#pragma GCC unroll 2
      for (int half = 0; half < G::kScales; ++half) {
        sum = _mm512_fmadd_ps(_mm512_mul_ps(s.scale[half], token_scale),
                              _mm512_cvtepi32_ps(transpose_add(dots[half])), sum);
      }
      if constexpr (G::kHasOffset) {
        const float* sums = x_sum + group * 2;
#pragma GCC unroll 2
        for (int half = 0; half < G::kScales; ++half) {
          const float x_half = G::kScales == 1 ? sums[0] + sums[1] : sums[half];
          sum = _mm512_fmadd_ps(s.offset[half], _mm512_set1_ps(x_half), sum);
        }
      }
    }
  }
}

/// GEMV: reads the weights once, at memory bandwidth, and unpacks them in registers.
template <class G>
void gemv(const GemmArgs& p, int64_t token) {
  constexpr int kChunk = 4096;  // elements along k; their activations stay in the L1 cache
  constexpr int64_t kBlockBytes = sizeof(typename G::Block);
  constexpr int64_t kChunkBytes = kChunk / G::kElements * kBlockBytes;
  alignas(64) HiLoActivations<G, kChunk> x;
  PaddedRows<kChunkBytes> padded;
  const int64_t x_at = activation_row(p, token) * p.k;
  float* out = p.out + token * p.out_stride;
  for (int64_t element = 0; element < p.k; element += kChunk) {
    const int elements = static_cast<int>(min_of<int64_t>(kChunk, p.k - element));
    x.set(p.x_int16.q + x_at + element, p.x_int16.q_sum + (x_at + element) / 16, elements);
    for (int64_t row = 0; row < p.rows; row += kLanes) {
      const __mmask16 mask = 0xffff >> max_of<int64_t>(0, kLanes - (p.rows - row));
      __m512 sum = element ? _mm512_maskz_loadu_ps(mask, out + row) : _mm512_setzero_ps();
      const int64_t at = element / G::kElements * kBlockBytes;
      const RowView rows = view_rows<G>(p, row, at, elements / G::kElements * kBlockBytes, padded);
      const RowPrefetcher<G> next{
          reinterpret_cast<uintptr_t>(p.weights) + (row + kLanes) * p.row_bytes + at, p.row_bytes};
      gemv_rows<G>(rows, elements, x, p.x_int16.scale + (x_at + element) / quant::kQuantGroup,
                   p.x_int16.sum + (x_at + element) / 16, next, sum);
      _mm512_mask_storeu_ps(out + row, mask, sum);
    }
  }
}

/// From this many tokens on, packing a panel pays: it takes as long as products with three tokens.
constexpr int64_t kMinPanelTokens = 3;

template <class G>
void matmul_int16(const GemmArgs& p) {
  if (p.tokens < kMinPanelTokens && p.accum_type == AccumType::f32) {
    for (int64_t token = 0; token < p.tokens; ++token) gemv<G>(p, token);
    return;
  }
  for_each_panel<G, PackedPanel>(p, [&](const PanelCoords& coords, const PackedPanel& panel) {
    multiply_panel(panel, coords, G::kScales, G::kHasOffset, p);
  });
}

/// With few tokens AVX2's kernel already runs at memory bandwidth, and its sums are the same.
template <class G, const GemmKernels* kAvx2>
void matmul_f32(const GemmArgs& p) {
  if (p.tokens < kMinPanelTokens) return kAvx2->matmul_f32(p);
  if constexpr (quant::QuantizedFormat<G>) {
    for_each_panel<G, PackedPanel>(p, [&](const PanelCoords& coords, const PackedPanel& panel) {
      PackedPanelF32 floats;
      dequantize_panel(panel, coords.elements, G::kScales, G::kHasOffset, floats);
      multiply_panel(floats, coords, p);
    });
  } else {
    for_each_panel<G, PackedPanelF32>(p,
                                      [&](const PanelCoords& coords, const PackedPanelF32& panel) {
                                        multiply_panel(panel, coords, p);
                                      });
  }
}

template <class G, const GemmKernels* kAvx2>
constexpr GemmKernels kernels_of() {
  GemmKernels kernels{.matmul_f32 = matmul_f32<G, kAvx2>,
                      .matmul_int16 = nullptr,
                      .int8_activations = int8_activations<G>()};
  if constexpr (quant::QuantizedFormat<G>) kernels.matmul_int16 = matmul_int16<G>;
  return kernels;
}

}  // namespace mxgpt::kernels::avx512
