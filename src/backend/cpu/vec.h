// Vectors of floats, as wide as the including file's flags allow. In an unnamed namespace: each
// instruction set has its own copy.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
// g++ 12 warns about the undefined operands inside some AVX-512 intrinsics.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include "quant/float_bits.h"

namespace mxgpt::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#else
constexpr int kWidth = 8;
#endif

using Vec = float __attribute__((vector_size(kWidth * 4)));
using IntVec = int32_t __attribute__((vector_size(kWidth * 4)));

inline Vec splat(float x) {
  return x - Vec{};  // not x + 0, which would turn -0 into 0
}

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, Vec v) {
  std::memcpy(p, &v, sizeof v);
}

/// Returns the second operand if one is NaN.
inline Vec max(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

inline Vec min(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

/// a · b + c, rounded once if the instruction set has FMA, so that results do not depend on what
/// the compiler fuses.
inline Vec mul_add(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

/// Reduces a vector with `combine`, upper half with lower half.
template <class F>
inline float reduce(Vec v, const F& combine) {
  using Four = float __attribute__((vector_size(16)));
  Four fours[kWidth / 4];
  std::memcpy(fours, &v, sizeof v);
  for (int half = kWidth / 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) fours[i] = combine(fours[i], fours[i + half]);
  }
  const Four two = combine(fours[0], __builtin_shufflevector(fours[0], fours[0], 2, 3, 2, 3));
  return combine(two, __builtin_shufflevector(two, two, 1, 1, 1, 1))[0];
}

inline float reduce_sum(Vec v) {
  return reduce(v, [](auto a, auto b) { return a + b; });
}

inline float reduce_max(Vec v) {
  return reduce(v, [](auto a, auto b) { return a > b ? a : b; });
}

inline Vec load_f16(const std::byte* p) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  uint16_t bits[kWidth];
  std::memcpy(bits, p, sizeof bits);
  Vec v;
  for (int i = 0; i < kWidth; ++i) v[i] = quant::f16_to_f32(bits[i]);
  return v;
#endif
}

inline Vec load_bf16(const std::byte* p) {
  uint16_t __attribute__((vector_size(kWidth * 2))) bits;
  std::memcpy(&bits, p, sizeof bits);
  return std::bit_cast<Vec>(__builtin_convertvector(bits, IntVec) << 16);
}

inline Vec load_i8(const std::byte* p) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(p)));
#else
  int8_t __attribute__((vector_size(kWidth))) bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(bytes, IntVec), Vec);
#endif
}

/// e^x to about 2 units in the last place: 2^n · p(r) with r in [-ln 2 / 2, ln 2 / 2] and the
/// Taylor polynomial of degree 7. Below -87 the result is 0, above 88 it is e^88; NaN stays NaN.
inline Vec exp(Vec x) {
  const Vec clamped = min(splat(88.0f), max(splat(-87.0f), x));
  const Vec shifted =
      mul_add(clamped, splat(1.44269504f), splat(12582912.0f));  // 1.5 · 2^23: rounds to integer
  const Vec n = shifted - splat(12582912.0f);
  const Vec r = mul_add(n, splat(2.12194440e-4f), mul_add(n, splat(-0.693359375f), clamped));
  Vec p = splat(1.0f / 5040);
  for (float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    p = mul_add(p, r, splat(c));
  const IntVec power = (std::bit_cast<IntVec>(shifted) + 127) << 23;
  const Vec y = p * std::bit_cast<Vec>(power);
  return x < splat(-87.0f) ? Vec{} : y;
}

}  // namespace
}  // namespace mxgpt::cpu
