// The kernels of kernels.h over the vectors of vec.h. Everything is in an unnamed namespace: each
// instruction set has its own copy.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "backend/cpu/attention_impl.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/vec.h"
#include "quant/float_bits.h"

namespace mxgpt::cpu {
namespace {

using Float4 = float __attribute__((vector_size(16)));
using Float8 = float __attribute__((vector_size(32)));
using Int16x16 = int16_t __attribute__((vector_size(32)));
using Int8x16 = int8_t __attribute__((vector_size(16)));

template <class V>
V larger(V a, V b) {
  return a > b ? a : b;
}
template <class V>
V smaller(V a, V b) {
  return a < b ? a : b;
}

/// Third largest of the maxima of a group's blocks of four.
float third_largest_quad(const float* x) {
  Float8 most[4];  // each maximum, four times
  for (int i = 0; i < 4; ++i) {
    Float8 v;
    std::memcpy(&v, x + 8 * i, sizeof v);
    v = larger(v, -v);
    v = larger(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6));
    most[i] = larger(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5));
  }
  const Float4 p = __builtin_shufflevector(most[0], most[1], 0, 4, 8, 12);
  const Float4 q = __builtin_shufflevector(most[2], most[3], 0, 4, 8, 12);
  // Sort four pairs, merge them into two sorted triples, and merge those.
  const Float4 a = larger(p, q), b = smaller(p, q);
  const Float4 c = __builtin_shufflevector(a, a, 2, 3, 0, 1);
  const Float4 d = __builtin_shufflevector(b, b, 2, 3, 0, 1);
  const Float4 first = larger(a, c), second = larger(larger(b, d), smaller(a, c));
  const Float4 third = larger(smaller(b, c), smaller(a, d));
  // The triples are in lanes 0 and 1.
  return std::max(std::max(third[0], third[1]),
                  std::max(std::min(first[0], second[1]), std::min(second[0], first[1])));
}

/// Splits a group, in the order of k, with at most two blocks of four that do not fit in int8, into
/// low bytes and outliers. Returns whether the sum of low bytes is within its limit.
bool split_outliers(const int16_t* q, kernels::OutlierSplitGroup& out) {
  uint32_t high[quant::kQuantGroup / 4];
  Int16x16 low_sum{};
  for (int half = 0; half < 2; ++half) {
    Int16x16 v;
    std::memcpy(&v, q + 16 * half, sizeof v);
    const Int16x16 low = (v << 8) >> 8;
    low_sum += low < 0 ? -low : low;
    const auto low_bytes = __builtin_convertvector(low, Int8x16);
    const auto high_bytes = __builtin_convertvector((v - low) >> 8, Int8x16);
    std::memcpy(out.low + 16 * half, &low_bytes, sizeof low_bytes);
    std::memcpy(high + 4 * half, &high_bytes, sizeof high_bytes);
  }
  unsigned peaks = 0;
  for (int i = 0; i < quant::kQuantGroup / 4; ++i) peaks |= unsigned{high[i] != 0} << i;
  for (int i = 0; i < kernels::kOutlierDwords; ++i) {
    const int quad = peaks ? std::countr_zero(peaks) : 0;
    const uint32_t four = peaks ? high[quad] : 0;
    out.outlier_offset[i] = static_cast<uint16_t>(4 * quad);
    std::memcpy(out.outlier_high[i], &four, sizeof four);
    peaks &= peaks - 1;
  }
  int sums[2] = {};
  for (int i = 0; i < 16; ++i) sums[i / 2 % 2] += low_sum[i];
  return std::max(sums[0], sums[1]) <= kernels::kMaxLowSum;
}

void quantize_int16(const float* x, int64_t k, int16_t* q, float* scale, float* sums,
                    int32_t* totals, kernels::OutlierSplitGroup* bytes) {
  using U8 = uint32_t __attribute__((
      vector_size(32)));  // unsigned, because the bits of a NaN may overflow the sums
  using U4 = uint32_t __attribute__((vector_size(16)));
  for (int64_t g = 0; g < k / quant::kQuantGroup;
       ++g, x += quant::kQuantGroup, q += quant::kQuantGroup, sums += 2, totals += 2) {
    Vec most{};
    Vec poison{};  // 0, or NaN if x has a NaN or infinity, which rounding would lose
    for (int i = 0; i < quant::kQuantGroup; i += kWidth) {
      const Vec v = load(x + i);
      most = max(most, max(v, -v));
      poison += v * splat(0);
    }
    const float amax = reduce_max(most);
    const float third = bytes ? third_largest_quad(x) : 0;
    const bool by_third = third * kernels::kMaxInt16Activation > amax * 127;
    const float top = by_third ? third : amax;
    float steps = by_third ? 127 : kernels::kMaxInt16Activation;
    int16_t in_order[quant::kQuantGroup];
    const auto round_group = [&] {
      scale[g] = top / steps + reduce_sum(poison);
      const Float8 inverse = Float8{} + (top > 0 ? steps / top : 0);
      // Adding 1.5 · 2^23 rounds to nearest even; the low mantissa bits are then the integer.
      const auto rounded = [&](const float* from) {
        Float8 eight;
        std::memcpy(&eight, from, sizeof eight);
        return std::bit_cast<U8>(eight * inverse + 12582912.0f) - 0x4b400000;
      };
      for (int half = 0; half < 2; ++half) {
        const U8 a = rounded(x + half * 16), b = rounded(x + half * 16 + 8);
        // The low halves of the integers, interleaved and in order.
        const auto a16 = std::bit_cast<Int16x16>(a), b16 = std::bit_cast<Int16x16>(b);
        const Int16x16 place = __builtin_shufflevector(a16, b16, 0, 4, 8, 12, 16, 20, 24, 28, 2, 6,
                                                       10, 14, 18, 22, 26, 30);
        std::memcpy(q + half * 16, &place, sizeof place);
        if (bytes) {
          const Int16x16 order = __builtin_shufflevector(a16, b16, 0, 2, 4, 6, 8, 10, 12, 14, 16,
                                                         18, 20, 22, 24, 26, 28, 30);
          std::memcpy(in_order + half * 16, &order, sizeof order);
        }
        const U8 pairs = a + b;
        U4 fours[2];
        std::memcpy(fours, &pairs, sizeof pairs);
        const U4 four = fours[0] + fours[1];
        totals[half] = static_cast<int32_t>(four[0] + four[1] + (four[2] + four[3]));
        sums[half] = scale[g] * static_cast<float>(totals[half]);
      }
    };
    round_group();
    if (!bytes) continue;
    if (!split_outliers(in_order, bytes[g])) {
      // Twelve elements are 64 at most then, and four, those of peaks, 128.
      steps /= 2;
      round_group();
      split_outliers(in_order, bytes[g]);
    }
    bytes[g].set_sums(scale[g], {sums[0], sums[1]}, {totals[0], totals[1]});
  }
}

/// Σ (x - shift)², summed in f32 within 256 elements and in double across them.
double sum_of_squares(const float* x, float shift, int64_t n) {
  double squares = 0;
  int64_t i = 0;
  for (; i + 256 <= n; i += 256) {
    Vec part{};
    for (int j = 0; j < 256; j += kWidth) {
      const Vec v = load(x + i + j) - splat(shift);
      part += v * v;
    }
    squares += reduce_sum(part);
  }
  for (; i < n; ++i) squares += (x[i] - shift) * (x[i] - shift);
  return squares;
}

void norm(const backend::Norm& norm, const float* x, int64_t n, float* out) {
  const auto count = static_cast<double>(n);
  float mean = 0;
  if (norm.kind == backend::NormKind::layer) {
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

/// Even elements (kWhich = 0) or odd elements (1) of two vectors.
template <int kWhich>
Vec deinterleave(const Vec* v) {
  constexpr int k = kWhich;
#if defined(__AVX512F__)
  return __builtin_shufflevector(v[0], v[1], k, k + 2, k + 4, k + 6, k + 8, k + 10, k + 12, k + 14,
                                 k + 16, k + 18, k + 20, k + 22, k + 24, k + 26, k + 28, k + 30);
#else
  return __builtin_shufflevector(v[0], v[1], k, k + 2, k + 4, k + 6, k + 8, k + 10, k + 12, k + 14);
#endif
}

/// Inverse of deinterleave: a[0], b[0], a[1], b[1]… starting at element kFrom.
template <int kFrom>
Vec interleave(Vec a, Vec b) {
  constexpr int k = kFrom, w = kFrom + kWidth;
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, k, w, k + 1, w + 1, k + 2, w + 2, k + 3, w + 3, k + 4, w + 4,
                                 k + 5, w + 5, k + 6, w + 6, k + 7, w + 7);
#else
  return __builtin_shufflevector(a, b, k, w, k + 1, w + 1, k + 2, w + 2, k + 3, w + 3);
#endif
}

void apply_rope(backend::RopeStyle pairs, float* head, const float* cos, const float* sin,
                int64_t head_dim) {
  const int64_t half = head_dim / 2;
  const bool halves = pairs == backend::RopeStyle::neox;
  int64_t i = 0;
  for (; i + kWidth <= half; i += kWidth) {
    const Vec c = load(cos + i), s = load(sin + i);
    float* first = head + (halves ? i : 2 * i);
    float* second = halves ? first + half : first + kWidth;
    const Vec x[] = {load(first), load(second)};
    const Vec a = halves ? x[0] : deinterleave<0>(x), b = halves ? x[1] : deinterleave<1>(x);
    const Vec y1 = mul_add(a, c, -(b * s)), y2 = mul_add(b, c, a * s);
    store(first, halves ? y1 : interleave<0>(y1, y2));
    store(second, halves ? y2 : interleave<kWidth / 2>(y1, y2));
  }
  for (; i < half; ++i) {
    float& x1 = head[halves ? i : 2 * i];
    float& x2 = head[halves ? i + half : 2 * i + 1];
    const float a = x1, b = x2;
    x1 = a * cos[i] - b * sin[i];
    x2 = b * cos[i] + a * sin[i];
  }
}

/// x · sigmoid(alpha · x)
inline Vec swish(Vec x, Vec alpha) {
  return x / (splat(1) + exp(-alpha * x));
}

/// x · Φ(x) = max(x, 0) - |x| / 2 · erfc(|x| / √2), which avoids cancellation for negative x.
/// erfc(z) is e^-z² times a polynomial in t = 1 / (1 + 0.3 z) (the form of Hastings 1955), accurate
/// to 2e-8.
inline Vec gelu(Vec x) {
  const Vec size = max(x, -x), z = size * splat(0.70710678f);
  const Vec t = splat(1) / mul_add(z, splat(0.3f), splat(1));
  Vec p = splat(-0.12940691f);
  for (float c : {0.48495346f, -0.51090378f, 0.54598773f, -0.09331719f, 0.21428503f, 0.14852679f,
                  0.17068470f, 0.16919012f, 0.0f})
    p = mul_add(p, t, splat(c));
  return max(x, Vec{}) - size * splat(0.5f) * p * exp(-z * z);
}

template <backend::ActivationKind kKind>
Vec act(Vec x) {
  if constexpr (kKind == backend::ActivationKind::silu) {
    return swish(x, splat(1));
  } else if constexpr (kKind == backend::ActivationKind::gelu_tanh) {
    // (1 + tanh u) / 2 = sigmoid(2 u)
    return x / (splat(1) + exp(splat(-1.59576912f) * mul_add(splat(0.044715f) * x * x, x, x)));
  } else {
    return gelu(x);
  }
}

/// gate[i] = f(gate[i], up[i]), vectorized. A null `up` reads as zeros.
template <class F>
void map_vectors(float* gate, const float* up, int64_t n, F f) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth)
    store(gate + i, f(load(gate + i), up ? load(up + i) : Vec{}));
  if (i == n) return;
  float padded[2][kWidth] = {};
  const auto bytes = static_cast<size_t>(n - i) * sizeof(float);
  std::memcpy(padded[0], gate + i, bytes);
  if (up) std::memcpy(padded[1], up + i, bytes);
  store(padded[0], f(load(padded[0]), load(padded[1])));
  std::memcpy(gate + i, padded[0], bytes);
}

template <backend::ActivationKind kKind>
void activate_as(float* gate, const float* up, int64_t n) {
  if (up)
    map_vectors(gate, up, n, [](Vec g, Vec u) { return act<kKind>(g) * u; });
  else
    map_vectors(gate, up, n, [](Vec g, Vec) { return act<kKind>(g); });
}

void activate(const backend::Activation& activation, float* gate, const float* up, int64_t n) {
  switch (activation.kind) {
    case backend::ActivationKind::clamped_swiglu:
      return map_vectors(gate, up, n, [&](Vec g, Vec u) {
        const Vec top = splat(activation.limit);
        g = min(g, top);
        u = max(min(u, top), -top);
        return (u + splat(1)) * swish(g, splat(activation.alpha));
      });
    case backend::ActivationKind::silu:
      return activate_as<backend::ActivationKind::silu>(gate, up, n);
    case backend::ActivationKind::gelu:
      return activate_as<backend::ActivationKind::gelu>(gate, up, n);
    case backend::ActivationKind::gelu_tanh:
      return activate_as<backend::ActivationKind::gelu_tanh>(gate, up, n);
  }
}

void add_scaled(const float* x, float weight, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += weight * x[i];
}

void quantize_kv(quant::Format format, const float* x, int64_t n, std::byte* out) {
  int64_t done = 0;
#if defined(__F16C__)
  for (; format == quant::Format::f16 && done + 8 <= n; done += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * done),
                     _mm256_cvtps_ph(_mm256_loadu_ps(x + done), _MM_FROUND_TO_NEAREST_INT));
  }
#endif
  const quant::FormatTraits& t = quant::traits(format);
  t.quantize(x + done, n - done, nullptr, out + t.row_bytes(done));
}

constexpr CpuKernels kKernels{quantize_int16, norm,         apply_rope,
                              activate,       add_scaled,   quantize_kv,
                              attention_tile, merge_states, normalize_states};

}  // namespace
}  // namespace mxgpt::cpu
