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

namespace mxgpt {

/// How faithful a step is. `standard` may round activations to 8 bits where weights are quantized;
/// `exact` keeps activations and the KV cache in f32.
enum class Precision { standard, exact };

/// x / sqrt(mean(x²) + eps) · weight  (Zhang & Sennrich 2019).
struct RmsNorm {
  Tensor weight;  ///< [hidden]
  float eps = 1e-5f;
};

/// Rotary embedding with halves rotated: (x1, x2) → (x1 cos - x2 sin, x2 cos + x1 sin), where the
/// angle of pair i is position · inverse_frequency[i], and cos and sin are multiplied by
/// `magnitude`.
struct Rope {
  const float* inverse_frequency;  ///< [head_dim / 2]; host memory
  float magnitude = 1;
};

/// x[row] = table[token]
struct Embed {
  Tensor table;  ///< [vocabulary, hidden]
  float* x;      ///< [rows, hidden]
};

/// cos and sin of every row's position, shared by the layers of a step.
struct Rotations {
  Rope rope;
  int head_dim;
  float* cos;  ///< [rows, head_dim / 2]
  float* sin;  ///< [rows, head_dim / 2]
};

/// Where one layer's keys and values live: [page][kv_head][kPageTokens][head_dim], in `format`.
struct KvLayer {
  KvGroup group;
  Format format;
  std::byte* keys;
  std::byte* values;
};

/// h = norm(x); q, k, v = linear(h); q and k rotated; k and v stored in the cache.
struct NormQkvRopeStore {
  const float* x;  ///< [rows, hidden]
  RmsNorm norm;
  Linear q, k, v;
  int heads, kv_heads, head_dim;
  const float* cos;  ///< [rows, head_dim / 2]
  const float* sin;
  KvLayer kv;
  float* q_out;  ///< [rows, heads, head_dim]
};

/// Grouped-query attention of each row to its sequence's cache, itself included. With sinks s, a
/// head's weights are exp(score) / (Σ exp(scores) + exp(s)), scores = q · k / sqrt(head_dim).
struct Attend {
  const float* q;  ///< [rows, heads, head_dim]
  int heads, kv_heads, head_dim;
  KvLayer kv;
  int64_t window;  ///< keys a row sees, itself included; 0 means all
  Tensor sinks;    ///< [heads], or absent
  float* out;      ///< [rows, heads, head_dim]
};

/// x += linear(in)
struct ProjectResidual {
  const float* in;  ///< [rows, linear.k]
  Linear linear;
  float* x;  ///< [rows, hidden]
};

/// SwiGLU as gpt-oss clamps it: g = min(gate, limit), u = clamp(up, -limit, limit),
/// (u + 1) · g · sigmoid(alpha · g). Source: openai/gpt-oss, gpt_oss/torch/model.py, swiglu.
struct ClampedSwiGlu {
  float alpha = 1.702f;
  float limit = 7.0f;
};

/// h = norm(x); the top_k experts of router(h), weighted by the softmax over those chosen;
/// x += Σ weight · down(act(gate(h), up(h))), summed in descending order of the router's choice.
struct NormRouteExpertsResidual {
  RmsNorm norm;
  Linear router;          ///< [experts, hidden]
  Linear gate, up, down;  ///< [experts][intermediate, hidden], [experts][hidden, intermediate]
  int top_k;
  ClampedSwiGlu activation;
  float* x;  ///< [rows, hidden]
};

/// logits[i] = head(norm(x[logit_rows[i]]))
struct NormLogits {
  const float* x;  ///< [rows, hidden]
  RmsNorm norm;
  Linear head;    ///< [vocabulary, hidden]
  float* logits;  ///< [logit_rows, vocabulary]
};

}  // namespace mxgpt
