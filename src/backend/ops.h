// The ops a backend offers: semantic and coarse, so that a backend may fuse inside them. The
// contract, for every backend:
//  - an op enqueues work and returns; it neither allocates nor synchronizes;
//  - it is correct for any mix of prefill and decode rows;
//  - a row's result does not depend on the other rows of the batch;
//  - one plain parameter struct, whose shapes the backend checks;
//  - buffers are f32 unless said otherwise, rows contiguous, in the backend's memory.
// Shapes name: rows (of the batch), hidden, heads, kv_heads, head_dim, experts, vocabulary.
#pragma once

#include <cstdint>

#include "backend/batch.h"
#include "backend/tensor.h"

namespace mxgpt::backend {

/// Where a model runs, and its weights are.
enum class Device { cpu, cuda };

/// How faithful a step is. `standard` may round activations to 16 bits where weights are quantized;
/// `exact` keeps activations and the KV cache in f32.
enum class Precision { mixed, exact };

enum class NormKind {
  rms,    ///< x / sqrt(mean(x²) + eps) · weight  (Zhang & Sennrich 2019)
  layer,  ///< (x - mean(x)) / sqrt(variance(x) + eps) · weight + bias  (Ba et al. 2016)
};

/// Over the last dimension, whose length the weight has. Without a weight there is no norm.
struct Norm {
  Tensor weight;
  Tensor bias;  ///< may be absent
  float eps = 1e-5f;
  NormKind kind = NormKind::rms;

  explicit operator bool() const { return static_cast<bool>(weight); }
};

enum class ActivationKind {
  /// As gpt-oss clamps SwiGLU: g = min(gate, limit), u = clamp(up, -limit, limit),
  /// (u + 1) · g · sigmoid(alpha · g). Source: openai/gpt-oss, gpt_oss/torch/model.py, swiglu.
  clamped_swiglu,
  silu,       ///< x · sigmoid(x)
  gelu,       ///< x · Φ(x) = x / 2 · (1 + erf(x / √2))  (Hendrycks & Gimpel 2016)
  gelu_tanh,  ///< x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), their approximation
};

/// Between an MLP's projections: act(gate) · up, or act(up) where there is no gate.
struct Activation {
  ActivationKind kind = ActivationKind::silu;
  float alpha = 1, limit = 0;  ///< of clamped_swiglu
};

/// Which elements of a head are rotated together as pair i: (x1, x2) → (x1 cos - x2 sin,
/// x2 cos + x1 sin), where the pair's angle is position · inverse_frequency[i].
enum class RopeStyle {
  neox,         ///< i and i + head_dim / 2
  interleaved,  ///< 2i and 2i + 1
};

/// Rotary embedding (Su et al. 2021). cos and sin are multiplied by `magnitude`.
struct Rope {
  const float* inv_freq;  ///< [head_dim / 2]
  float magnitude = 1;
};

/// x[row] = scale · table[token] + positions[position of the row]
struct Embed {
  Tensor table;  ///< [vocabulary, hidden]
  float scale = 1;
  Tensor positions;  ///< [context, hidden], or absent
  float* x;          ///< [rows, hidden]
};

/// cos and sin of every row's position, shared by the layers of a step.
struct RopeCosSin {
  Rope rope;
  int head_dim;
  float* cos;  ///< [rows, head_dim / 2]
  float* sin;  ///< [rows, head_dim / 2]
};

/// Where one layer's keys and values live: [page][kv_head][kPageTokens][head_dim], in `format`.
struct KvLayer {
  KvGroup group;
  quant::Format format;
  std::byte* keys;
  std::byte* values;
};

/// h = norm(x); q, k, v = linear(h); every head of q and k normed, where they have a norm, and
/// rotated; k and v stored in the cache.
struct NormQkvRopeStore {
  const float* x;  ///< [rows, hidden]
  Norm norm;
  Linear q, k, v;
  Norm q_norm, k_norm;  ///< [head_dim], or absent
  int heads, kv_heads, head_dim;
  RopeStyle pairs = RopeStyle::neox;
  const float* cos = nullptr;  ///< [rows, head_dim / 2]; null: no rotation
  const float* sin = nullptr;
  KvLayer kv;
  float* q_out;  ///< [rows, heads, head_dim]
};

/// Grouped-query attention of each row to its sequence's cache, itself included; multi-head where
/// heads = kv_heads. With sinks s, a head's weights are exp(score) / (Σ exp(scores) + exp(s)),
/// score = scale · q · k.
struct Attend {
  const float* q;  ///< [rows, heads, head_dim]
  int heads, kv_heads, head_dim;
  float scale;  ///< 1 / sqrt(head_dim) in most models
  KvLayer kv;
  int64_t window = 0;  ///< keys a row sees, itself included; 0 means all
  Tensor sinks;        ///< [heads], or absent
  float* out;          ///< [rows, heads, head_dim]
};

/// x += post_norm(linear(in))
struct ProjectResidual {
  const float* in;  ///< [rows, linear.k]
  Linear linear;
  Norm post_norm;  ///< [hidden], or absent
  float* x;        ///< [rows, hidden]
};

/// h = norm(x); x += post_norm(down(act(gate(h), up(h)))).
struct NormMlpResidual {
  Norm norm;
  Linear gate;      ///< [intermediate, hidden], or absent
  Linear up, down;  ///< [intermediate, hidden], [hidden, intermediate]
  Activation activation;
  Norm post_norm;  ///< [hidden], or absent
  float* x;        ///< [rows, hidden]
};

/// h = norm(x); the top_k experts of router(h), weighted by the softmax over those chosen;
/// x += Σ weight · down(act(gate(h), up(h))), summed in descending order of the router's choice.
struct NormRouteExpertsResidual {
  Norm norm;
  Linear router;          ///< [experts, hidden]
  Linear gate, up, down;  ///< [experts][intermediate, hidden], [experts][hidden, intermediate]
  int top_k;
  Activation activation;
  float* x;  ///< [rows, hidden]
};

/// logits[i] = head(norm(x[logit_rows[i]]))
struct NormLogits {
  const float* x;  ///< [rows, hidden]
  Norm norm;
  Linear head;    ///< [vocabulary, hidden]
  float* logits;  ///< [logit_rows, vocabulary]
};

}  // namespace mxgpt::backend
