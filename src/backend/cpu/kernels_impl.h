// The kernels of kernels.h over vectors of eight floats, which the compiler maps to what the
// including file's flags allow. Everything is in an unnamed namespace: each instruction set has its
// own copy.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "backend/cpu/kernels.h"
#include "formats/float_bits.h"

namespace mxgpt::cpu {
namespace {

using F8 = float __attribute__((vector_size(32)));
using I8 = int32_t __attribute__((vector_size(32)));

inline F8 splat(float x) {
  return F8{} + x;
}

inline F8 load(const float* p) {
  F8 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, F8 v) {
  std::memcpy(p, &v, sizeof v);
}

inline F8 max(F8 a, F8 b) {
  return a > b ? a : b;
}
inline F8 min(F8 a, F8 b) {
  return a < b ? a : b;
}

inline float sum(F8 v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/// Eight elements of a cache that holds f32, f16 or bf16.
template <Format kFormat>
inline F8 load_as(const std::byte* p) {
  if constexpr (kFormat == Format::f32) {
    return load(reinterpret_cast<const float*>(p));
  } else {
    uint16_t bits[8];
    std::memcpy(bits, p, sizeof bits);
#if defined(__AVX2__)
    if constexpr (kFormat == Format::f16) {
      return (F8)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bits)));
    }
#endif
    F8 v;
    for (int i = 0; i < 8; ++i) {
      v[i] = kFormat == Format::f16 ? f16_to_f32(bits[i]) : bf16_to_f32(bits[i]);
    }
    return v;
  }
}

/// e^x to about 2 units in the last place: 2^n · p(r) with r in [-ln 2 / 2, ln 2 / 2] and the
/// Taylor polynomial of degree 7. Below -87 the result is 0, above 88 it is e^88; NaN stays NaN.
inline F8 exp(F8 x) {
  const F8 clamped = min(max(x, splat(-87.0f)), splat(88.0f));
  const F8 shifted =
      clamped * splat(1.44269504f) + splat(12582912.0f);  // 1.5 · 2^23: rounds to integer
  const F8 n = shifted - splat(12582912.0f);
  const F8 r = clamped - n * splat(0.693359375f) - n * splat(-2.12194440e-4f);
  F8 p = splat(1.0f / 5040);
  for (float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    p = p * r + splat(c);
  I8 exponent;
  std::memcpy(&exponent, &shifted, sizeof exponent);
  F8 power;
  exponent = (exponent + 127) << 23;
  std::memcpy(&power, &exponent, sizeof power);
  const F8 y = x < splat(-87.0f) ? F8{} : p * power;
  return x == x ? y : x;
}

void quantize_q16(const float* x, int64_t k, int16_t* q, float* scale, float* sums) {
  for (int64_t g = 0; g < k / kGroup; ++g, x += kGroup, q += kGroup, sums += 2) {
    F8 largest{};
    F8 poison{};  // 0, or NaN if x holds a NaN or an infinity: it must not vanish in the rounding
    for (int i = 0; i < kGroup; i += 8) {
      const F8 v = load(x + i);
      largest = max(largest, max(v, -v));
      poison += v * splat(0);
    }
    float amax = 0;
    for (int i = 0; i < 8; ++i) amax = std::max(amax, largest[i]);
    scale[g] = amax / 32767 + sum(poison);
    const float inverse = amax > 0 ? 32767 / amax : 0;
    for (int half = 0; half < 2; ++half) {
      int32_t total = 0;
      for (int i = half * 16; i < half * 16 + 16; ++i) {
        // Adding 1.5 · 2^23 rounds to nearest even and leaves the integer in the low mantissa bits.
        const float shifted = x[i] * inverse + 12582912.0f;
        const auto value = static_cast<int16_t>(std::bit_cast<int32_t>(shifted));
        q[q16_place(i)] = value;
        total += value;
      }
      sums[half] = scale[g] * static_cast<float>(total);
    }
  }
}

/// Σ (x - shift)²: f32 within 256 elements, double across them.
double sum_of_squares(const float* x, float shift, int64_t n) {
  double squares = 0;
  int64_t i = 0;
  for (; i + 256 <= n; i += 256) {
    F8 part{};
    for (int j = 0; j < 256; j += 8) {
      const F8 v = load(x + i + j) - splat(shift);
      part += v * v;
    }
    squares += sum(part);
  }
  for (; i < n; ++i) squares += (x[i] - shift) * (x[i] - shift);
  return squares;
}

void norm(const Norm& norm, const float* x, int64_t n, float* out) {
  const auto count = static_cast<double>(n);
  float mean = 0;
  if (norm.kind == NormKind::layer) {
    double total = 0;
    for (int64_t i = 0; i < n; ++i) total += x[i];
    mean = static_cast<float>(total / count);
  }
  const auto variance = static_cast<float>(sum_of_squares(x, mean, n) / count);
  const float scale = 1 / std::sqrt(variance + norm.eps);
  const float* weight = norm.weight.f32();
  if (norm.bias) {
    const float* bias = norm.bias.f32();
    for (int64_t i = 0; i < n; ++i) out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = (x[i] - mean) * scale * weight[i];
  }
}

void rotate(RopePairs pairs, float* head, const float* cos, const float* sin, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  const int64_t step = pairs == RopePairs::halves ? 1 : 2;
  const int64_t apart = pairs == RopePairs::halves ? half : 1;
  for (int64_t i = 0; i < half; ++i) {
    float& x1 = head[i * step];
    float& x2 = head[i * step + apart];
    const float a = x1, b = x2;
    x1 = a * cos[i] - b * sin[i];
    x2 = b * cos[i] + a * sin[i];
  }
}

inline F8 sigmoid(F8 x) {
  return splat(1) / (splat(1) + exp(-x));
}

template <ActivationKind kKind>
F8 act(F8 x) {
  if constexpr (kKind == ActivationKind::silu) {
    return x * sigmoid(x);
  } else if constexpr (kKind == ActivationKind::gelu_tanh) {
    // (1 + tanh u) / 2 = sigmoid(2 u)
    return x * sigmoid(splat(1.59576912f) * (x + splat(0.044715f) * x * x * x));
  } else {
    F8 y;
    for (int i = 0; i < 8; ++i) y[i] = 0.5f * x[i] * (1 + std::erf(x[i] * 0.70710678f));
    return y;
  }
}

/// gate = f(gate, up) by eights; the last may be partly padding. A null `up` gives zeros.
template <class F>
void by_eights(float* gate, const float* up, int64_t n, F f) {
  for (int64_t i = 0; i < n; i += 8) {
    float padded[2][8] = {};
    const auto bytes = static_cast<size_t>(std::min<int64_t>(8, n - i)) * sizeof(float);
    std::memcpy(padded[0], gate + i, bytes);
    if (up) std::memcpy(padded[1], up + i, bytes);
    store(padded[0], f(load(padded[0]), load(padded[1])));
    std::memcpy(gate + i, padded[0], bytes);
  }
}

template <ActivationKind kKind>
void activate_as(float* gate, const float* up, int64_t n) {
  if (up)
    by_eights(gate, up, n, [](F8 g, F8 u) { return act<kKind>(g) * u; });
  else
    by_eights(gate, up, n, [](F8 g, F8) { return act<kKind>(g); });
}

void activate(const Activation& activation, float* gate, const float* up, int64_t n) {
  switch (activation.kind) {
    case ActivationKind::clamped_swiglu:
      return by_eights(gate, up, n, [&](F8 g, F8 u) {
        const F8 top = splat(activation.limit);
        g = min(g, top);
        u = max(min(u, top), -top);
        return (u + splat(1)) * g / (splat(1) + exp(g * splat(-activation.alpha)));
      });
    case ActivationKind::silu:
      return activate_as<ActivationKind::silu>(gate, up, n);
    case ActivationKind::gelu:
      return activate_as<ActivationKind::gelu>(gate, up, n);
    case ActivationKind::gelu_tanh:
      return activate_as<ActivationKind::gelu_tanh>(gate, up, n);
  }
}

void add_scaled(const float* x, float weight, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += weight * x[i];
}

/// Attention as a mergeable state (Milakov & Gimelshein 2018): running maximum m, weights' sum,
/// weighted values, corrected page by page. A page is a block at fixed positions, so the order of
/// operations is the same for every way of cutting a prompt into steps.
template <Format kFormat>
void attend_as(const AttendHeads& p) {
  constexpr int64_t kBytes = kFormat == Format::f32 ? 4 : 2;
  const int64_t head_bytes = p.head_dim * kBytes;
  float scaled_q[kMaxHeadDim];
  for (int h = 0; h < p.group; ++h) {
    for (int d = 0; d < p.head_dim; ++d) scaled_q[d] = p.q[h * p.head_dim + d] * p.scale;
    float m = p.sinks ? p.sinks[h] : -std::numeric_limits<float>::infinity();
    float total = p.sinks ? 1.0f : 0.0f;
    float* out = p.out + h * p.head_dim;
    std::fill(out, out + p.head_dim, 0.0f);

    for (int64_t at = p.first; at <= p.last;) {
      const int64_t begin = at % kPageTokens;
      const int64_t end = std::min<int64_t>(kPageTokens, begin + p.last - at + 1);
      const int64_t page = p.pages[at / kPageTokens] * p.page_bytes;
      float weights[kPageTokens];
      std::fill(weights, weights + kPageTokens, -std::numeric_limits<float>::infinity());
      float block_max = m;
      for (int64_t j = begin; j < end; ++j) {
        const std::byte* key = p.keys + page + j * head_bytes;
        F8 dot{};
        int d = 0;
        for (; d + 8 <= p.head_dim; d += 8)
          dot += load(scaled_q + d) * load_as<kFormat>(key + d * kBytes);
        float score = sum(dot);
        for (; d < p.head_dim; ++d) {
          std::byte padded[8 * kBytes] = {};
          std::memcpy(padded, key + d * kBytes, kBytes);
          score += scaled_q[d] * load_as<kFormat>(padded)[0];
        }
        weights[j] = score;
        block_max = std::max(block_max, score);
      }
      const float correction = exp(splat(m - block_max))[0];
      m = block_max;
      F8 block_total{};
      for (int j = 0; j < kPageTokens; j += 8) {
        const F8 w = exp(load(weights + j) - splat(m));
        store(weights + j, w);
        block_total += w;
      }
      total = total * correction + sum(block_total);
      int d = 0;
      for (; d + 8 <= p.head_dim; d += 8) {
        F8 value = load(out + d) * splat(correction);
        const std::byte* column = p.values + page + d * kBytes;
        for (int64_t j = begin; j < end; ++j) {
          value += splat(weights[j]) * load_as<kFormat>(column + j * head_bytes);
        }
        store(out + d, value);
      }
      for (; d < p.head_dim; ++d) {
        out[d] *= correction;
        for (int64_t j = begin; j < end; ++j) {
          std::byte padded[8 * kBytes] = {};
          std::memcpy(padded, p.values + page + j * head_bytes + d * kBytes, kBytes);
          out[d] += weights[j] * load_as<kFormat>(padded)[0];
        }
      }
      at += end - begin;
    }
    for (int d = 0; d < p.head_dim; ++d) out[d] /= total;
  }
}

void attend(const AttendHeads& p) {
  switch (p.format) {
    case Format::f16:
      return attend_as<Format::f16>(p);
    case Format::bf16:
      return attend_as<Format::bf16>(p);
    default:
      return attend_as<Format::f32>(p);
  }
}

constexpr CpuKernels kKernels{quantize_q16, norm, rotate, activate, add_scaled, attend};

}  // namespace
}  // namespace mxgpt::cpu
