// Reference implementations of the backends' ops and blocks in double precision, written as their
// definitions, one row at a time. Used by the tests, `validate --kernels` and the self-checks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <numeric>
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

/// act(gate) · up. Without a gate, `up` is 1.
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

/// One head, rotated by the angles of its position.
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

/// y = W·x + b with a weight of any format; `expert` selects one of several matrices.
inline std::vector<double> linear(const backend::Linear& linear, std::span<const double> x,
                                  int64_t expert = 0) {
  const backend::Tensor& weight = linear.weight;
  std::vector<float> row(weight.k);
  std::vector<double> y;
  for (int64_t r = 0; r < weight.rows; ++r) {
    quant::traits(weight.format)
        .dequantize(weight.expert(expert) + r * weight.row_bytes(), weight.k, row.data());
    y.push_back(std::inner_product(row.begin(), row.end(), x.begin(), 0.0) +
                (linear.bias ? linear.bias.f32(expert)[r] : 0));
  }
  return y;
}

/// One row of mlp_block.
inline std::vector<double> mlp_block(const backend::MlpBlock& op, std::span<const float> x) {
  const std::vector<double> h = norm(op.norm, x);
  std::vector<double> inner = linear(op.up, h);
  const std::vector<double> gate = op.gate.weight ? linear(op.gate, h) : inner;
  for (size_t i = 0; i < inner.size(); ++i)
    inner[i] = activate(op.activation, gate[i], op.gate.weight ? inner[i] : 1);
  std::vector<double> out = linear(op.down, inner);
  if (op.post_norm) out = norm(op.post_norm, std::vector<float>(out.begin(), out.end()));
  for (size_t i = 0; i < out.size(); ++i) out[i] += x[i];
  return out;
}

/// One row of moe_block. Among equal logits, the lower expert is selected.
inline std::vector<double> moe_block(const backend::MoeBlock& op, std::span<const float> x) {
  const std::vector<double> h = norm(op.router.norm, x);
  const std::vector<double> logits = linear(op.router.linear, h);
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  order.resize(op.router.top_k);
  double sum_exp = 0;
  for (const int expert : order) sum_exp += std::exp(logits[expert] - logits[order[0]]);
  std::vector<double> out(x.begin(), x.end());
  for (const int expert : order) {
    const std::vector<double> gate = linear(op.gate, h, expert);
    std::vector<double> inner = linear(op.up, h, expert);
    for (size_t i = 0; i < inner.size(); ++i) inner[i] = activate(op.activation, gate[i], inner[i]);
    const std::vector<double> down = linear(op.down, inner, expert);
    const double weight = std::exp(logits[expert] - logits[order[0]]) / sum_exp;
    for (size_t i = 0; i < out.size(); ++i) out[i] += weight * down[i];
  }
  return out;
}

/// One query head and the keys and values of its KV head.
struct Attention {
  const float* q;  ///< [head_dim]
  const float* keys;
  const float* values;
  int64_t stride;  ///< between the keys (or values) of consecutive positions, in floats
  int head_dim;
  double scale;
  int64_t first, last;  ///< range of visible positions, inclusive
  const float* sink = nullptr;
};

/// Softmax attention, with the sink as an additional score.
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
