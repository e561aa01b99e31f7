// Reference implementations of the ops in double precision, written as plainly as their
// definitions. Used by the tests, `validate --kernels` and self-checks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <vector>

#include "backend/ops.h"

namespace mxgpt::eval::reference {

inline std::vector<double> norm(const backend::Norm& norm, std::span<const float> x) {
  const auto n = static_cast<double>(x.size());
  double mean = 0, squares = 0;
  if (norm.kind == backend::NormKind::layer) {
    for (const float v : x) mean += v / n;
  }
  for (const float v : x) squares += (v - mean) * (v - mean);
  const double scale = 1 / std::sqrt(squares / n + norm.eps);
  std::vector<double> out;
  for (size_t i = 0; i < x.size(); ++i) {
    out.push_back((x[i] - mean) * scale * norm.weight.f32()[i] +
                  (norm.bias ? norm.bias.f32()[i] : 0));
  }
  return out;
}

/// act(gate) · up; without a gate, up is 1.
inline double activate(const backend::Activation& activation, double gate, double up) {
  switch (activation.kind) {
    case backend::ActivationKind::clamped_swiglu: {
      const double g = std::min<double>(gate, activation.limit);
      const double u = std::clamp<double>(up, -activation.limit, activation.limit);
      return (u + 1) * g / (1 + std::exp(-activation.alpha * g));
    }
    case backend::ActivationKind::silu:
      return up * gate / (1 + std::exp(-gate));
    case backend::ActivationKind::gelu:
      return up * gate / 2 * std::erfc(-gate / std::numbers::sqrt2);
    case backend::ActivationKind::gelu_tanh:
      break;
  }
  const double inner = std::sqrt(2 / std::numbers::pi) * (gate + 0.044715 * gate * gate * gate);
  return up * gate / 2 * (1 + std::tanh(inner));
}

/// RoPE applied to one head.
inline std::vector<double> rotate(backend::RopeStyle pairs, std::span<const float> head,
                                  const float* cos, const float* sin) {
  std::vector<double> out(head.size());
  const size_t half = head.size() / 2;
  for (size_t i = 0; i < half; ++i) {
    const size_t first = pairs == backend::RopeStyle::neox ? i : 2 * i;
    const size_t second = pairs == backend::RopeStyle::neox ? i + half : 2 * i + 1;
    const double a = head[first], b = head[second];
    out[first] = a * cos[i] - b * sin[i];
    out[second] = b * cos[i] + a * sin[i];
  }
  return out;
}

/// One query head against the keys and values of its KV head.
struct Attention {
  const float* q;  ///< [head_dim]
  const float* keys;
  const float* values;
  int64_t stride;  ///< elements between consecutive positions
  int head_dim;
  double scale;
  int64_t first, last;  ///< visible positions, inclusive
  const float* sink = nullptr;
};

/// Softmax over all scores and the sink, then the weighted sum of values.
inline std::vector<double> attention(const Attention& p) {
  std::vector<double> weights;
  double max_score = p.sink ? *p.sink : -INFINITY;
  for (int64_t at = p.first; at <= p.last; ++at) {
    double score = 0;
    for (int d = 0; d < p.head_dim; ++d) score += double{p.q[d]} * p.keys[at * p.stride + d];
    weights.push_back(score * p.scale);
    max_score = std::max(max_score, weights.back());
  }
  double sum_exp = p.sink ? std::exp(*p.sink - max_score) : 0;
  for (double& w : weights) sum_exp += w = std::exp(w - max_score);
  std::vector<double> out(p.head_dim);
  for (int64_t at = p.first; at <= p.last; ++at) {
    for (int d = 0; d < p.head_dim; ++d)
      out[d] += weights[at - p.first] / sum_exp * p.values[at * p.stride + d];
  }
  return out;
}

}  // namespace mxgpt::eval::reference
