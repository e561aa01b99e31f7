// Unpacking of weights with AVX2: what each format provides, and helpers for it. Included by
// *_avx2.cpp files only; gemm.h has the matrix products, written once for all formats.
//
// A quantized format G derives from its definition (quant/block_format.h) and adds
//   kBias        makes q + kBias nonnegative, so that unpacked weights are unsigned bytes
//   static RowPair load(const Block& a, const Block& b, int group);     q + kBias
//   template <class Blocks> static GroupScales scales(const Blocks& block);   block(0) to block(7)
//     or, for blocks of 256 elements, static GroupScales scales(const Block&) of its eight groups
//   static __m256i bytes(__m256i nibbles);     optional, see NibbleFormat (row_block.h)
// A floating-point format adds
//   static __m256 load(const Block*);          eight elements
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/gemm.h"
#include "quant/block_format.h"

namespace mxgpt::kernels::avx2 {

/// A group of two rows a and b as unsigned bytes: a in the low lane, b in the high lane.
struct RowPair {
  __m256i low;   ///< elements 0 to 15
  __m256i high;  ///< elements 16 to 31
};

/// Scales and offsets of eight groups. The second of each is for formats with two scales per group.
struct GroupScales {
  __m256 scale[2];
  __m256 offset[2];
};

inline float half_to_f32(uint16_t half) {
  return _cvtsh_ss(half);
}

/// 16 bytes each of a and b.
inline __m256i load_2x128(const void* a, const void* b) {
  return _mm256_inserti128_si256(
      _mm256_castsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(a))),
      _mm_loadu_si128(static_cast<const __m128i*>(b)), 1);
}

inline __m256i low_nibbles(__m256i v) {
  return _mm256_and_si256(v, _mm256_set1_epi8(0xf));
}
inline __m256i high_nibbles(__m256i v) {
  return low_nibbles(_mm256_srli_epi16(v, 4));
}

/// The low and the high nibbles of 16 bytes per row.
inline RowPair unpack_nibbles(const uint8_t* a, const uint8_t* b) {
  const __m256i packed = load_2x128(a, b);
  return {low_nibbles(packed), high_nibbles(packed)};
}

/// table[index] + kBias, as unsigned bytes.
template <int kBias>
__m256i shuffle_lookup(const int8_t (&table)[16], __m256i indices) {
  const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  const __m128i biased = _mm_add_epi8(values, _mm_set1_epi8(static_cast<char>(kBias)));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(biased), indices);
}

/// Expands 32 bits per row to bytes that are `value` where the bit is set and 0 elsewhere.
inline RowPair expand_bits(int8_t value, const uint8_t* a, const uint8_t* b) {
  int32_t bits_a, bits_b;
  std::memcpy(&bits_a, a, sizeof bits_a);
  std::memcpy(&bits_b, b, sizeof bits_b);
  const __m256i words = _mm256_set_m128i(_mm_set1_epi32(bits_b), _mm_set1_epi32(bits_a));
  const __m256i bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const auto spread = [&](int64_t first, int64_t second) {
    const __m256i byte_of = _mm256_setr_epi64x(first, second, first, second);
    const __m256i bytes = _mm256_and_si256(_mm256_shuffle_epi8(words, byte_of), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(bytes, bit), _mm256_set1_epi8(value));
  };
  return {spread(0, 0x0101010101010101), spread(0x0202020202020202, 0x0303030303030303)};
}

/// Reads an f16 field of each of eight blocks.
template <class Blocks, class Block>
__m256 load_f16_fields(const Blocks& block, uint16_t Block::*field) {
  __m128i halves = _mm_cvtsi32_si128(block(0).*field);
  halves = _mm_insert_epi16(halves, block(1).*field, 1);
  halves = _mm_insert_epi16(halves, block(2).*field, 2);
  halves = _mm_insert_epi16(halves, block(3).*field, 3);
  halves = _mm_insert_epi16(halves, block(4).*field, 4);
  halves = _mm_insert_epi16(halves, block(5).*field, 5);
  halves = _mm_insert_epi16(halves, block(6).*field, 6);
  halves = _mm_insert_epi16(halves, block(7).*field, 7);
  return _mm256_cvtph_ps(halves);
}

/// `unit` times each of eight unsigned bytes, the lowest first.
inline __m256 scale_u8(float unit, uint64_t bytes) {
  const __m256i words = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(bytes)));
  return _mm256_mul_ps(_mm256_set1_ps(unit), _mm256_cvtepi32_ps(words));
}

struct DeinterleavedScales {
  __m256 even, odd;
};

/// `unit` times each of sixteen signed bytes, separated into even and odd positions.
inline DeinterleavedScales scale_i8_deinterleaved(float unit, __m128i bytes) {
  const auto scaled = [unit](__m128i words) {
    return _mm256_mul_ps(_mm256_set1_ps(unit), _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(words)));
  };
  return {scaled(_mm_srai_epi16(_mm_slli_epi16(bytes, 8), 8)), scaled(_mm_srai_epi16(bytes, 8))};
}

}  // namespace mxgpt::kernels::avx2

#include "kernels/cpu/avx2/gemm.h"

/// Defines the AVX2 kernels of format G in quant/<folder>/<folder>_avx2.cpp.
#define MXGPT_DEFINE_AVX2(folder, G)                                              \
  namespace mxgpt::kernels::formats {                                             \
  extern constinit const GemmKernels folder##_avx2 = avx2::kernels_of<avx2::G>(); \
  }
