// Matrix tiles for AVX-512 with VNNI, written once for all formats. Included by *_avx512.cpp files
// only.
//
// A quantized format G has, beside its scalar definition,
//   static constexpr int kBias;     added to q, so that the weights of `load` are unsigned
//   static Avx512Quad load(const Block& a, const Block& b, const Block& c, const Block& d, int g);
//   static constexpr int kScaleWords[];  bytes of the block at which 32 bits with its scales lie
//   static Avx512Scales scales(const __m512i* words, int g);   those words of sixteen rows
// and a floating-point format
//   static void values(__m512i bits, __m512* out);   4 / sizeof(Block) neighbours of sixteen rows
//
// A lane is a row. The order of sums is that of avx2.h, to the bit; panel_avx512.h has the products
// with many tokens.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/cpu/avx512/packed_panel.h"
#include "quant/reference.h"

namespace mxgpt::kernels {

/// A group of four rows, a row in each 128-bit lane: elements 0 to 15, and 16 to 31.
struct Avx512RowQuad {
  __m512i low, high;
};

/// Of sixteen rows, for each part of a group that has its own.
struct Avx512Scales {
  __m512 scale[2];
  __m512 offset[2] = {};
};

namespace avx512 {

/// 16 bytes of each of four rows.
MXGPT_ALWAYS_INLINE __m512i load_4x128(const void* a, const void* b, const void* c, const void* d) {
  const auto part = [](const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); };
  __m512i all = _mm512_castsi128_si512(part(a));
  all = _mm512_inserti32x4(all, part(b), 1);
  all = _mm512_inserti32x4(all, part(c), 2);
  return _mm512_inserti32x4(all, part(d), 3);
}

/// The low or, with a shift of 4, the high nibbles; as well two bits at a shift.
MXGPT_ALWAYS_INLINE __m512i extract_bits(__m512i bytes, int shift, int mask) {
  return _mm512_and_si512(_mm512_srli_epi16(bytes, shift),
                          _mm512_set1_epi8(static_cast<char>(mask)));
}

MXGPT_ALWAYS_INLINE Avx512RowQuad unpack_nibbles(__m512i bytes) {
  return {extract_bits(bytes, 0, 0xf), extract_bits(bytes, 4, 0xf)};
}

/// table[index] + bias.
template <int kBias>
MXGPT_ALWAYS_INLINE Avx512RowQuad shuffle_lookup(const int8_t (&table)[16],
                                                 const Avx512RowQuad& indices) {
  const __m128i values = _mm_add_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)),
                                      _mm_set1_epi8(static_cast<char>(kBias)));
  const __m512i all = _mm512_broadcast_i32x4(values);
  return {_mm512_shuffle_epi8(all, indices.low), _mm512_shuffle_epi8(all, indices.high)};
}

/// `bit` where a row's 32 bits (little-endian) have a one at the element's place is added.
MXGPT_ALWAYS_INLINE Avx512RowQuad add_bits(const Avx512RowQuad& q, const uint8_t* a,
                                           const uint8_t* b, const uint8_t* c, const uint8_t* d,
                                           int bit) {
  const auto half = [](const uint8_t* p) -> uint64_t {
    uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return bits;
  };
  const auto masks = [&](int at) {
    return half(a + at) | half(b + at) << 16 | half(c + at) << 32 | half(d + at) << 48;
  };
  const __m512i value = _mm512_set1_epi8(static_cast<char>(bit));
  return {_mm512_mask_add_epi8(q.low, masks(0), q.low, value),
          _mm512_mask_add_epi8(q.high, masks(2), q.high, value)};
}

/// The f16 in the lower or upper half of each lane.
MXGPT_ALWAYS_INLINE __m512 f16_low(__m512i words) {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
}
MXGPT_ALWAYS_INLINE __m512 f16_high(__m512i words) {
  return f16_low(_mm512_srli_epi32(words, 16));
}

/// Bits of each lane as a number.
MXGPT_ALWAYS_INLINE __m512i bit_field(__m512i words, int shift, int mask) {
  return _mm512_and_si512(_mm512_srli_epi32(words, shift), _mm512_set1_epi32(mask));
}
/// Byte i of each lane with its sign.
MXGPT_ALWAYS_INLINE __m512i signed_byte(__m512i words, int i) {
  return _mm512_srai_epi32(_mm512_slli_epi32(words, 24 - 8 * i), 24);
}

/// The scale and minimum of part g of KQuantScales, whose twelve bytes are words 1 to 3.
struct KQuantScaleWords {
  __m512i scale, min;

  MXGPT_ALWAYS_INLINE KQuantScaleWords(const __m512i* words, int g) {
    if (g < 4) {
      scale = bit_field(words[1], g * 8, 63);
      min = bit_field(words[2], g * 8, 63);
    } else {
      const auto joined = [&](__m512i upper, int at) {
        return _mm512_or_si512(bit_field(words[3], at, 0xf),
                               _mm512_slli_epi32(bit_field(upper, g % 4 * 8 + 6, 3), 4));
      };
      scale = joined(words[1], g % 4 * 8);
      min = joined(words[2], g % 4 * 8 + 4);
    }
  }
};

/// unit · count.
MXGPT_ALWAYS_INLINE __m512 scale_i32(__m512 unit, __m512i count) {
  return _mm512_mul_ps(unit, _mm512_cvtepi32_ps(count));
}
MXGPT_ALWAYS_INLINE __m512 negate(__m512 v) {
  return _mm512_xor_ps(v, _mm512_set1_ps(-0.0f));
}

/// Sixteen rows, from some element on.
struct RowView {
  const std::byte* first;
  int64_t stride;

  /// 16 · stride must fit an int32.
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

/// Room for a copy of sixteen rows where fewer are left, or where a row of floats, which are read
/// by 16 bytes, does not end with them.
template <int64_t kBytes>
struct PaddedRows {
  alignas(64) std::byte bytes[kLanes][kBytes];
};

/// `bytes` bytes from `at` on of the sixteen rows from `row` on; what lies beyond the tile is
/// zeros.
template <class G, int64_t kBytes>
MXGPT_ALWAYS_INLINE RowView view_rows(const quant::GemmArgs& p, int64_t row, int64_t at,
                                      int64_t bytes, PaddedRows<kBytes>& padded) {
  const std::byte* first = p.weights + row * p.row_bytes + at;
  const int64_t rows = p.rows - row;
  const bool inside = quant::QuantizedFormat<G> || at + bytes < p.row_bytes || bytes % 16 == 0;
  if (inside && rows >= kLanes && p.row_bytes <= std::numeric_limits<int32_t>::max() / kLanes)
    return {first, p.row_bytes};
  std::memset(&padded, 0, sizeof padded);
  for (int r = 0; r < std::min<int64_t>(rows, kLanes); ++r)
    std::memcpy(padded.bytes[r], first + r * p.row_bytes, bytes);
  return {padded.bytes[0], kBytes};
}

/// Four registers with a row of dwords in each 128-bit lane become four columns: register i holds
/// rows i, i + 4, i + 8, i + 12 before; dword i of all rows in their order after.
MXGPT_ALWAYS_INLINE void transpose(__m512i (&v)[4]) {
  const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
  const __m512i c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
  v[0] = _mm512_unpacklo_epi64(a, c);
  v[1] = _mm512_unpackhi_epi64(a, c);
  v[2] = _mm512_unpacklo_epi64(b, d);
  v[3] = _mm512_unpackhi_epi64(b, d);
}

/// The sum of those four columns.
MXGPT_ALWAYS_INLINE __m512i transpose_add(const __m512i (&v)[4]) {
  const __m512i ab =
      _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i cd =
      _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

template <class G>
MXGPT_ALWAYS_INLINE Avx512RowQuad load_row_quad(const RowView& rows, int64_t block, int g, int i) {
  using Block = typename G::Block;
  return G::load(rows.block<Block>(i, block), rows.block<Block>(i + 4, block),
                 rows.block<Block>(i + 8, block), rows.block<Block>(i + 12, block), g);
}

template <class G>
inline constexpr int kScaleWordCount = static_cast<int>(std::size(G::kScaleWords));

template <class G>
MXGPT_ALWAYS_INLINE void gather_scale_words(const RowView& rows, int64_t block,
                                            __m512i (&words)[kScaleWordCount<G>]) {
#pragma GCC unroll 8
  for (int i = 0; i < kScaleWordCount<G>; ++i)
    words[i] = rows.gather(block * int64_t{sizeof(typename G::Block)} + G::kScaleWords[i]);
}

/// Sixteen rows of a panel, in the lanes from `lane` on.
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
        const Avx512RowQuad quad = load_row_quad<G>(rows, block, g, i);
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
          int32_t* place = panel.pairs[group * 16 + half * 8 + i] + lane;
          _mm512_store_si512(place, _mm512_sub_epi16(even, bias));
          _mm512_store_si512(place + 4 * kPanelRows, _mm512_sub_epi16(odd, bias));
        }
      }
      const Avx512Scales s = G::scales(words, g);
      for (int part = 0; part < G::kScales; ++part) {
        _mm512_store_ps(panel.scale[group * G::kScales + part] + lane, s.scale[part]);
        if constexpr (G::kHasOffset)
          _mm512_store_ps(panel.offset[group * G::kScales + part] + lane, s.offset[part]);
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

/// Calls f(place, unpack) for each panel of the tile: `unpack(panel)` fills one.
template <class G, class AnyPanel, class F>
void for_each_panel(const quant::GemmArgs& p, F f) {
  using Block = typename G::Block;
  constexpr int64_t kBytes = kPanelK / quant::elements_per_block<G>() * int64_t{sizeof(Block)};
  AnyPanel panel;
  PaddedRows<kBytes> padded;
  for (int64_t row = 0; row < p.rows; row += kPanelRows) {
    for (int64_t element = 0; element < p.k; element += kPanelK) {
      const PanelCoords place{
          .row = row,
          .rows = static_cast<int>(std::min<int64_t>(kPanelRows, p.rows - row)),
          .element = element,
          .elements = static_cast<int>(std::min<int64_t>(kPanelK, p.k - element))};
      for (int lane = 0; lane < place.rows; lane += kLanes) {
        unpack<G>(
            view_rows<G>(
                p, row + lane, element / quant::elements_per_block<G>() * int64_t{sizeof(Block)},
                place.elements / quant::elements_per_block<G>() * int64_t{sizeof(Block)}, padded),
            place.elements, lane, panel);
      }
      f(place, panel);
    }
  }
}

/// 16-bit activations of a token as bytes, q = 256 · high + low, which vpdpbusd multiplies with
/// unsigned weights; and -kBias · Σ q, for what the weights have too much. Of a format with one
/// scale a group, the first half's correction is that of both.
template <class G, int kElements>
struct HiLoActivations {
  struct Half {
    int8_t high[16], low[16];
    int32_t correction[4];  ///< the others 0: four lanes are added up
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

/// Asks for sixteen rows ahead of time, in the order in which they will be read. The hardware
/// follows so many streams badly, and stops at the end of a page.
template <class G>
struct RowPrefetcher {
  static constexpr int64_t kBlockBytes = sizeof(typename G::Block);
  static constexpr int64_t kGroups = G::kElements / quant::kQuantGroup;
  /// Groups to a cache line, rounded down.
  static constexpr int64_t kEvery = std::max<int64_t>(1, 64 * kGroups / kBlockBytes);

  // As an integer: past the last row the address means nothing, which a prefetch does not mind.
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

/// The tile of sixteen rows and one token, over `elements` elements.
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
        const Avx512RowQuad w = load_row_quad<G>(rows, block, g, i);
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
      const Avx512Scales s = G::scales(words, g);
      const __m512 token_scale = _mm512_set1_ps(x_scale[group]);
#pragma GCC unroll 2
      for (int part = 0; part < G::kScales; ++part) {
        sum = _mm512_fmadd_ps(_mm512_mul_ps(s.scale[part], token_scale),
                              _mm512_cvtepi32_ps(transpose_add(dots[part])), sum);
      }
      if constexpr (G::kHasOffset) {
        const float* parts = x_sum + group * 2;
#pragma GCC unroll 2
        for (int part = 0; part < G::kScales; ++part) {
          const float x_part = G::kScales == 1 ? parts[0] + parts[1] : parts[part];
          sum = _mm512_fmadd_ps(s.offset[part], _mm512_set1_ps(x_part), sum);
        }
      }
    }
  }
}

/// One token: weights are read once, at the speed of memory, and never unpacked to memory.
template <class G>
void gemv(const quant::GemmArgs& p, int64_t token) {
  constexpr int kPanelK = 4096;
  constexpr int64_t kBlockBytes = sizeof(typename G::Block);
  constexpr int64_t kSpanBytes = kPanelK / G::kElements * kBlockBytes;
  alignas(64) HiLoActivations<G, kPanelK> x;
  PaddedRows<kSpanBytes> padded;
  const int64_t x_at = quant::activation_row(p, token) * p.k;
  float* out = p.out + token * p.out_stride;
  for (int64_t element = 0; element < p.k; element += kPanelK) {
    const int elements = static_cast<int>(std::min<int64_t>(kPanelK, p.k - element));
    x.set(p.x_int16.q + x_at + element, p.x_int16.q_sum + (x_at + element) / 16, elements);
    for (int64_t row = 0; row < p.rows; row += kLanes) {
      const __mmask16 mask = 0xffff >> std::max<int64_t>(0, kLanes - (p.rows - row));
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

/// To unpack a panel takes as long as its products with three tokens.
constexpr int64_t kMinPanelTokens = 3;

template <class G>
void matmul_int16(const quant::GemmArgs& p) {
  if (p.tokens < kMinPanelTokens && p.accum_type == quant::AccumType::f32) {
    for (int64_t token = 0; token < p.tokens; ++token) gemv<G>(p, token);
    return;
  }
  for_each_panel<G, PackedPanel>(p, [&](const PanelCoords& place, const PackedPanel& panel) {
    multiply_panel(panel, place, G::kScales, G::kHasOffset, p);
  });
}

/// AVX2's kernel of few tokens reads weights at the speed of memory, and has the same sums.
template <class G, const quant::GemmKernels* kAvx2>
void matmul_f32(const quant::GemmArgs& p) {
  if (p.tokens < kMinPanelTokens) return kAvx2->matmul_f32(p);
  if constexpr (quant::QuantizedFormat<G>) {
    for_each_panel<G, PackedPanel>(p, [&](const PanelCoords& place, const PackedPanel& panel) {
      PackedPanelF32 floats;
      dequantize_panel(panel, place.elements, G::kScales, G::kHasOffset, floats);
      multiply_panel(floats, place, p);
    });
  } else {
    for_each_panel<G, PackedPanelF32>(p,
                                      [&](const PanelCoords& place, const PackedPanelF32& panel) {
                                        multiply_panel(panel, place, p);
                                      });
  }
}

template <class G, const quant::GemmKernels* kAvx2>
constexpr quant::GemmKernels kernels_of() {
  quant::GemmKernels kernels{.matmul_f32 = matmul_f32<G, kAvx2>, .matmul_int16 = nullptr};
  if constexpr (quant::QuantizedFormat<G>) kernels.matmul_int16 = matmul_int16<G>;
  return kernels;
}

}  // namespace avx512
}  // namespace mxgpt::kernels

/// In formats/<folder>/<folder>_avx512.cpp, for the format G with its AVX-512 `load` and `scales`.
#define MXGPT_DEFINE_AVX512(folder, G)                         \
  namespace mxgpt::quant::formats {                            \
  extern const GemmKernels folder##_avx2;                      \
  extern constinit const GemmKernels folder##_avx512 =         \
      mxgpt::kernels::avx512::kernels_of<G, &folder##_avx2>(); \
  }
