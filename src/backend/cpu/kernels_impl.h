// The kernels of kernels.h over the vectors of vec.h. Everything is in an unnamed namespace: each
// instruction set has its own copy.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/attention_impl.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/vec.h"
#include "formats/float_bits.h"

namespace mxgpt::cpu {
namespace {

void quantize_q16(const float* x, int64_t k, int16_t* q, float* scale, float* sums,
                  int32_t* totals) {
  using F8 = float __attribute__((vector_size(32)));
  using U8 = uint32_t __attribute__((vector_size(32)));  // of a NaN any bits: sums may wrap
  using S8 = int16_t __attribute__((vector_size(16)));
  for (int64_t g = 0; g < k / kGroup; ++g, x += kGroup, q += kGroup, sums += 2, totals += 2) {
    Vec most{};
    Vec poison{};  // 0, or NaN if x holds a NaN or an infinity: it must not vanish in the rounding
    for (int i = 0; i < kGroup; i += kWidth) {
      const Vec v = load(x + i);
      most = max(most, max(v, -v));
      poison += v * splat(0);
    }
    const float amax = largest(most);
    scale[g] = amax / kQ16Most + sum(poison);
    const F8 inverse = F8{} + (amax > 0 ? kQ16Most / amax : 0);
    // Adding 1.5 · 2^23 rounds to nearest even and leaves the integer in the low mantissa bits.
    const auto rounded = [&](const float* from) {
      F8 eight;
      std::memcpy(&eight, from, sizeof eight);
      const F8 shifted = eight * inverse + 12582912.0f;
      U8 bits;
      std::memcpy(&bits, &shifted, sizeof bits);
      return bits - 0x4b400000;
    };
    for (int half = 0; half < 2; ++half) {
      const U8 a = rounded(x + half * 16), b = rounded(x + half * 16 + 8);
      // By q16_place.
      const S8 places[] = {
          __builtin_convertvector(__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14), S8),
          __builtin_convertvector(__builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15), S8)};
      std::memcpy(q + half * 16, places, sizeof places);
      const U8 pairs = a + b;
      uint32_t total = 0;
      for (int i = 0; i < 8; ++i) total += pairs[i];
      totals[half] = static_cast<int32_t>(total);
      sums[half] = scale[g] * static_cast<float>(totals[half]);
    }
  }
}

/// Σ (x - shift)²: f32 within 256 elements, double across them.
double sum_of_squares(const float* x, float shift, int64_t n) {
  double squares = 0;
  int64_t i = 0;
  for (; i + 256 <= n; i += 256) {
    Vec part{};
    for (int j = 0; j < 256; j += kWidth) {
      const Vec v = load(x + i + j) - splat(shift);
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

inline Vec sigmoid(Vec x) {
  return splat(1) / (splat(1) + exp(-x));
}

template <ActivationKind kKind>
Vec act(Vec x) {
  if constexpr (kKind == ActivationKind::silu) {
    return x * sigmoid(x);
  } else if constexpr (kKind == ActivationKind::gelu_tanh) {
    // (1 + tanh u) / 2 = sigmoid(2 u)
    return x * sigmoid(splat(1.59576912f) * (x + splat(0.044715f) * x * x * x));
  } else {
    Vec y;
    for (int i = 0; i < kWidth; ++i) y[i] = 0.5f * x[i] * (1 + std::erf(x[i] * 0.70710678f));
    return y;
  }
}

/// gate = f(gate, up) by vectors; the last may be partly padding. A null `up` gives zeros.
template <class F>
void by_vectors(float* gate, const float* up, int64_t n, F f) {
  for (int64_t i = 0; i < n; i += kWidth) {
    float padded[2][kWidth] = {};
    const auto bytes = static_cast<size_t>(std::min<int64_t>(kWidth, n - i)) * sizeof(float);
    std::memcpy(padded[0], gate + i, bytes);
    if (up) std::memcpy(padded[1], up + i, bytes);
    store(padded[0], f(load(padded[0]), load(padded[1])));
    std::memcpy(gate + i, padded[0], bytes);
  }
}

template <ActivationKind kKind>
void activate_as(float* gate, const float* up, int64_t n) {
  if (up)
    by_vectors(gate, up, n, [](Vec g, Vec u) { return act<kKind>(g) * u; });
  else
    by_vectors(gate, up, n, [](Vec g, Vec) { return act<kKind>(g); });
}

void activate(const Activation& activation, float* gate, const float* up, int64_t n) {
  switch (activation.kind) {
    case ActivationKind::clamped_swiglu:
      return by_vectors(gate, up, n, [&](Vec g, Vec u) {
        const Vec top = splat(activation.limit);
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

void narrow(Format format, const float* x, int64_t n, std::byte* out) {
  int64_t done = 0;
#if defined(__F16C__)
  for (; format == Format::f16 && done + 8 <= n; done += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * done),
                     _mm256_cvtps_ph(_mm256_loadu_ps(x + done), _MM_FROUND_TO_NEAREST_INT));
  }
#endif
  const FormatTraits& t = traits(format);
  t.quantize(x + done, n - done, nullptr, out + t.row_bytes(done));
}

constexpr CpuKernels kKernels{quantize_q16, norm,   rotate, activate, add_scaled,
                              narrow,       attend, merge,  finish};

}  // namespace
}  // namespace mxgpt::cpu
