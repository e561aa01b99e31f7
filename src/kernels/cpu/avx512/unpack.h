// Unpacking of weights with AVX-512: what each format provides, and helpers for it. Included by
// *_avx512.cpp files only; gemm.h has the matrix products, written once for all formats.
//
// A quantized format G derives from its definition (quant/block_format.h) and adds
//   static constexpr int kBias;
//     makes q + kBias nonnegative, so that unpacked weights are unsigned bytes
//   static RowQuad load(const Block& a, const Block& b, const Block& c, const Block& d, int group);
//   static constexpr int kScaleWords[];
//     offsets in the block of the dwords that contain its scales
//   static GroupScales scales(const __m512i* words, int group);
//     from those dwords of sixteen rows
// A floating-point format adds
//   static void values(__m512i bits, __m512* out);
//     4 / sizeof(Block) adjacent elements of sixteen rows
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/gemm.h"
#include "quant/block_format.h"

namespace mxgpt::kernels::avx512 {

/// A group of four rows, one per 128-bit lane.
struct RowQuad {
  __m512i low;   ///< elements 0 to 15
  __m512i high;  ///< elements 16 to 31
};

/// Scales and offsets of sixteen rows. The second of each is for formats with two scales per group.
struct GroupScales {
  __m512 scale[2];
  __m512 offset[2] = {};
};

/// 16 bytes each of four rows.
MXGPT_ALWAYS_INLINE __m512i load_4x128(const void* a, const void* b, const void* c, const void* d) {
  const auto load = [](const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); };
  __m512i all = _mm512_castsi128_si512(load(a));
  all = _mm512_inserti32x4(all, load(b), 1);
  all = _mm512_inserti32x4(all, load(c), 2);
  return _mm512_inserti32x4(all, load(d), 3);
}

/// Extracts a bit field of every byte: nibbles with shift 0 or 4, or two bits at any shift. Bits
/// from the neighbouring byte are masked.
MXGPT_ALWAYS_INLINE __m512i extract_bits(__m512i bytes, int shift, int mask) {
  return _mm512_and_si512(_mm512_srli_epi16(bytes, shift),
                          _mm512_set1_epi8(static_cast<char>(mask)));
}

MXGPT_ALWAYS_INLINE RowQuad unpack_nibbles(__m512i bytes) {
  return {extract_bits(bytes, 0, 0xf), extract_bits(bytes, 4, 0xf)};
}

/// table[index] + kBias, as unsigned bytes.
template <int kBias>
MXGPT_ALWAYS_INLINE RowQuad shuffle_lookup(const int8_t (&table)[16], const RowQuad& indices) {
  const __m128i values = _mm_add_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)),
                                      _mm_set1_epi8(static_cast<char>(kBias)));
  const __m512i all = _mm512_broadcast_i32x4(values);
  return {_mm512_shuffle_epi8(all, indices.low), _mm512_shuffle_epi8(all, indices.high)};
}

/// Adds `bit` to the elements whose bit is set in their row's 32 bits (little-endian).
MXGPT_ALWAYS_INLINE RowQuad add_bits(const RowQuad& q, const uint8_t* a, const uint8_t* b,
                                     const uint8_t* c, const uint8_t* d, int bit) {
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

/// The f16 in the lower or upper half of each dword.
MXGPT_ALWAYS_INLINE __m512 f16_low(__m512i words) {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
}
MXGPT_ALWAYS_INLINE __m512 f16_high(__m512i words) {
  return f16_low(_mm512_srli_epi32(words, 16));
}

/// A bit field of each dword.
MXGPT_ALWAYS_INLINE __m512i bit_field(__m512i words, int shift, int mask) {
  return _mm512_and_si512(_mm512_srli_epi32(words, shift), _mm512_set1_epi32(mask));
}
/// Byte i of each dword, sign-extended.
MXGPT_ALWAYS_INLINE __m512i signed_byte(__m512i words, int i) {
  return _mm512_srai_epi32(_mm512_slli_epi32(words, 24 - 8 * i), 24);
}

/// Scale and min of sub-block g of KQuantScales, whose twelve bytes are dwords 1 to 3.
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

/// unit · count
MXGPT_ALWAYS_INLINE __m512 scale_i32(__m512 unit, __m512i count) {
  return _mm512_mul_ps(unit, _mm512_cvtepi32_ps(count));
}
MXGPT_ALWAYS_INLINE __m512 negate(__m512 v) {
  return _mm512_xor_ps(v, _mm512_set1_ps(-0.0f));
}

}  // namespace mxgpt::kernels::avx512

#include "kernels/cpu/avx512/gemm.h"

/// Defines the AVX-512 kernels of format G in quant/<folder>/<folder>_avx512.cpp.
#define MXGPT_DEFINE_AVX512(folder, G)                 \
  namespace mxgpt::kernels::formats {                  \
  extern const GemmKernels folder##_avx2;              \
  extern constinit const GemmKernels folder##_avx512 = \
      avx512::kernels_of<avx512::G, &folder##_avx2>(); \
  }
