// Which tensors a model is made of: names, shapes and places, said once and used by the loader, the
// converter and every tool that walks over weights.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "backend/tensor.h"
#include "model/config.h"

namespace mxgpt {

/// One transformer block. What an architecture lacks stays an empty Tensor.
struct Layer {
  Tensor attn_norm, attn_norm_bias;     ///< [hidden]
  Tensor q, q_bias;                     ///< [heads * head_dim, hidden]
  Tensor k, k_bias, v, v_bias;          ///< [kv_heads * head_dim, hidden]
  Tensor qkv, qkv_bias;                 ///< q, k and v in one, rows in this order
  Tensor q_norm, k_norm;                ///< [head_dim]
  Tensor sinks;                         ///< [heads]
  Tensor o, o_bias;                     ///< [hidden, heads * head_dim]
  Tensor attn_post_norm;                ///< [hidden]
  Tensor mlp_norm, mlp_norm_bias;       ///< [hidden]
  Tensor router, router_bias;           ///< [experts, hidden]
  Tensor gate, gate_bias, up, up_bias;  ///< [experts][intermediate, hidden]; dense: no experts
  Tensor gate_up;                       ///< gate and up in one, gate's rows first
  Tensor down, down_bias;               ///< [experts][hidden, intermediate]
  Tensor mlp_post_norm;                 ///< [hidden]
};

struct Weights {
  Tensor embedding;  ///< [vocabulary, hidden]
  Tensor positions;  ///< [context, hidden], where they are learned
  std::vector<Layer> layers;
  Tensor norm, norm_bias;  ///< [hidden]
  Tensor head;             ///< [vocabulary, hidden]; empty: the embedding is the head
  Tensor rope_divisors;    ///< [head_dim / 2]; runners use Config::rope, where they are as well

  const Tensor& head_or_embedding() const { return head ? head : embedding; }
};

/// Sizes that shapes are made of.
enum class Dim {
  one,
  vocabulary,
  context,
  hidden,
  heads,
  head_dim,
  half_head,  ///< head_dim / 2
  q,          ///< heads * head_dim
  kv,         ///< kv_heads * head_dim
  qkv,        ///< q and twice kv
  intermediate,
  gate_up,  ///< twice intermediate
  experts,
};
int64_t dim(const Config& config, Dim d);

/// What a tensor is for, which decides how it may be stored.
enum class Role {
  vector,     ///< norms, biases, sinks: f32 wherever mxgpt holds or writes them
  router,     ///< small and decisive: f32 in GGUF files
  embedding,  ///< rows are looked up: of tokens, of positions
  dense,      ///< attention's projections, and dense MLPs
  head,       ///< logits
  expert,     ///< MXFP4 in the released checkpoints
};

/// How files hold a tensor, where it is not simply as mxgpt does.
struct FileLayout {
  /// A file may be without it; then its Tensor is empty.
  bool optional = false;

  // The rest is of checkpoints alone: a GGUF file has every tensor in mxgpt's orientation.

  /// gpt-oss experts: `name_blocks` and `name_scales` in MXFP4, or else `name` in
  /// [slices][k][rows], transposed.
  bool experts = false;
  /// Rows start, start + stride, … of the checkpoint's are this tensor's: gate and up alternate.
  int row_start = 0, row_stride = 1;
  /// [k][rows] instead of [rows][k], as GPT-2's Conv1D.
  bool transposed = false;
  /// Rows of a head (or of its bias) are in halves; mxgpt and GGUF files of this architecture have
  /// the two of a rotated pair side by side (RopePairs::neighbours).
  bool rope_halves = false;
  /// The norm multiplies by 1 + weight; mxgpt and GGUF files hold the sum.
  bool plus_one = false;
};

struct TensorSpec {
  std::string_view gguf;        ///< "blk.{}.attn_q.weight"; {} is the layer
  std::string_view checkpoint;  ///< "model.layers.{}.self_attn.q_proj.weight"; empty: not there
  std::variant<Tensor Weights::*, Tensor Layer::*> member;
  Dim slices, rows, k;  ///< a vector is `one` row of k; per expert: slices of k
  Role role;
  FileLayout layout = {};

  bool is(Tensor Weights::*of_model) const {
    const auto* own = std::get_if<Tensor Weights::*>(&member);
    return own && *own == of_model;
  }
  /// How many a model has of it: one a layer, or one.
  int64_t layers(const Config& config) const { return per_layer() ? config.layers : 1; }
  bool per_layer() const { return std::holds_alternative<Tensor Layer::*>(member); }
  Tensor& in(Weights& weights, int64_t layer) const;
  std::string gguf_name(int64_t layer) const;
  std::string checkpoint_name(int64_t layer) const;
  /// Outermost first, without the dimensions that are `one`.
  std::vector<int64_t> shape(const Config& config) const;
};

/// A tensor in host memory in mxgpt's own orientation (that of GGUF files). `owner` keeps the bytes
/// alive.
struct HostTensor {
  Format format = Format::f32;
  std::vector<int64_t> shape;  ///< as TensorSpec::shape gives it
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

}  // namespace mxgpt
