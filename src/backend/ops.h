// Parameters of the blocks that a backend computes (backend/backend.h): one plain struct per block,
// with the formula it implements. Buffers are f32 unless said otherwise, rows contiguous, in the
// backend's memory. Shapes name rows (tokens of the batch), hidden, heads, kv_heads, head_dim,
// experts, vocabulary.
#pragma once

#include <cstdint>

#include "backend/batch.h"
#include "backend/tensor.h"

namespace mxgpt::backend {

/// Numerical mode of a step. `mixed` may round activations to 16 bits where weights are quantized;
/// `exact` keeps activations and the KV cache in f32.
enum class Precision { mixed, exact };

enum class NormKind {
  rms,    ///< x / sqrt(mean(x²) + eps) · weight  (Zhang & Sennrich 2019)
  layer,  ///< (x - mean(x)) / sqrt(variance(x) + eps) · weight + bias  (Ba et al. 2016)
};

/// Normalization over the last dimension, of length weight.k. An empty weight means no norm.
struct Norm {
  Tensor weight;
  Tensor bias;  ///< optional
  float eps = 1e-5f;
  NormKind kind = NormKind::rms;

  explicit operator bool() const { return static_cast<bool>(weight); }
};

enum class ActivationKind {
  /// The clamped SwiGLU of gpt-oss: g = min(gate, limit), u = clamp(up, -limit, limit),
  /// (u + 1) · g · sigmoid(alpha · g). Source: openai/gpt-oss, gpt_oss/torch/model.py, swiglu.
  clamped_swiglu,
  silu,       ///< x · sigmoid(x)
  gelu,       ///< x · Φ(x) = x / 2 · (1 + erf(x / √2))  (Hendrycks & Gimpel 2016)
  gelu_tanh,  ///< x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), the paper's approximation
};

/// Activation between an MLP's projections: act(gate) · up, or act(up) without a gate.
struct Activation {
  ActivationKind kind = ActivationKind::silu;
  float alpha = 1, limit = 0;  ///< clamped_swiglu only
};

/// Elements of a head that form rotated pair i: (x1, x2) → (x1 cos - x2 sin, x2 cos + x1 sin) with
/// the angle position · inv_freq[i].
enum class RopeStyle {
  neox,         ///< i and i + head_dim / 2
  interleaved,  ///< 2i and 2i + 1
};

/// Rotary position embedding (Su et al. 2021). cos and sin are multiplied by `magnitude`.
struct Rope {
  const float* inv_freq;  ///< [head_dim / 2]
  float magnitude = 1;
};

/// x[row] = scale · table[token] + positions[position of the row]
struct Embed {
  Tensor table;  ///< [vocabulary, hidden]
  float scale = 1;
  Tensor positions;  ///< [context, hidden]; optional
  float* x;          ///< [rows, hidden]
};

/// cos and sin of each row's position, shared by the layers of a step.
struct RopeCosSin {
  Rope rope;
  int head_dim;
  float* cos;  ///< [rows, head_dim / 2]
  float* sin;  ///< [rows, head_dim / 2]
};

/// KV cache of one layer: [page][kv_head][kPageTokens][head_dim], in `format`.
struct KvLayer {
  KvGroup group;
  quant::Format format;
  std::byte* keys;
  std::byte* values;
};

/// Grouped-query attention of each row to its sequence's cached keys, including its own;
/// multi-head if heads = kv_heads. score = scale · q · k. With sinks s, a head's weights are
/// exp(score) / (Σ exp(scores) + exp(s)).
struct Attention {
  const float* q;  ///< [rows, heads, head_dim]
  int heads, kv_heads, head_dim;
  float scale;  ///< 1 / sqrt(head_dim) in most models
  KvLayer kv;
  int64_t window = 0;  ///< keys visible to a row, including its own; 0 means all
  Tensor sinks;        ///< [heads]; optional
  float* out;          ///< [rows, heads, head_dim]
};

/// Router of a mixture of experts: the top_k largest of linear(norm(x)), weighted by the softmax
/// over the selected logits.
struct Router {
  Norm norm;
  Linear linear;  ///< [experts, hidden]
  int top_k = 0;
  /// Partial logits, passed from the preceding attention_block to moe_block by backends that fuse
  /// the router into the output projection. Its size is the backend's; null if it does not fuse.
  float* partial_logits = nullptr;
};

/// x += post_norm(o(attention(rope(q_norm(q(h))), rope(k_norm(k(h))), v(h)))) with h = norm(x).
/// Keys and values of the batch's rows are stored in the cache first.
struct AttentionBlock {
  float* x;  ///< [rows, hidden]
  Norm norm;
  Linear q, k, v;       ///< [heads · head_dim, hidden], [kv_heads · head_dim, hidden]
  Norm q_norm, k_norm;  ///< per head, [head_dim]; optional
  int heads, kv_heads, head_dim;
  RopeStyle rope_style = RopeStyle::neox;
  const float* cos = nullptr;  ///< [rows, head_dim / 2]; null: no rotation
  const float* sin = nullptr;
  float scale;         ///< as in Attention
  int64_t window = 0;  ///< as in Attention
  Tensor sinks;        ///< [heads]; optional
  KvLayer kv;
  Linear o;        ///< [hidden, heads · head_dim]
  Norm post_norm;  ///< [hidden]; optional
  /// Router of the moe_block that follows, or null. A backend may compute part of it here.
  const Router* next_router = nullptr;

  /// The attention of this block, from `q_rows` to `out_rows`, both [rows, heads, head_dim].
  Attention attention(const float* q_rows, float* out_rows) const {
    return {.q = q_rows,
            .heads = heads,
            .kv_heads = kv_heads,
            .head_dim = head_dim,
            .scale = scale,
            .kv = kv,
            .window = window,
            .sinks = sinks,
            .out = out_rows};
  }
};

/// x += post_norm(down(act(gate(h), up(h)))) with h = norm(x).
struct MlpBlock {
  Norm norm;
  Linear gate;      ///< [intermediate, hidden]; optional
  Linear up, down;  ///< [intermediate, hidden], [hidden, intermediate]
  Activation activation;
  Norm post_norm;  ///< [hidden]; optional
  float* x;        ///< [rows, hidden]
};

/// x += Σ_e p_e · down_e(act(gate_e(h), up_e(h))) with h = router.norm(x), over the experts e that
/// the router selects with weights p_e, in descending order of weight.
struct MoeBlock {
  Router router;
  Linear gate, up, down;  ///< [experts][intermediate, hidden], [experts][hidden, intermediate]
  Activation activation;
  float* x;  ///< [rows, hidden]
};

/// logits[i] = linear(norm(x[logit_rows[i]]))
struct LmHead {
  const float* x;  ///< [rows, hidden]
  Norm norm;
  Linear linear;  ///< [vocabulary, hidden]
  float* logits;  ///< [logit_rows, vocabulary]
};

}  // namespace mxgpt::backend
