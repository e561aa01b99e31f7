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

namespace mxgpt::model {

/// One transformer block. What an architecture lacks stays an empty Tensor.
struct Layer {
  backend::Tensor attn_norm, attn_norm_bias;  ///< [hidden]
  backend::Tensor q, q_bias;                  ///< [heads * head_dim, hidden]
  backend::Tensor k, k_bias, v, v_bias;       ///< [kv_heads * head_dim, hidden]
  backend::Tensor qkv, qkv_bias;              ///< q, k and v in one, rows in this order
  backend::Tensor q_norm, k_norm;             ///< [head_dim]
  backend::Tensor sinks;                      ///< [heads]
  backend::Tensor o, o_bias;                  ///< [hidden, heads * head_dim]
  backend::Tensor attn_post_norm;             ///< [hidden]
  backend::Tensor mlp_norm, mlp_norm_bias;    ///< [hidden]
  backend::Tensor router, router_bias;        ///< [experts, hidden]
  backend::Tensor gate, gate_bias, up,
      up_bias;                      ///< [experts][intermediate, hidden]; dense: no experts
  backend::Tensor gate_up;          ///< gate and up in one, gate's rows first
  backend::Tensor down, down_bias;  ///< [experts][hidden, intermediate]
  backend::Tensor mlp_post_norm;    ///< [hidden]
};

struct Weights {
  backend::Tensor embedding;           ///< [vocabulary, hidden]
  backend::Tensor position_embedding;  ///< [context, hidden], where they are learned
  std::vector<Layer> layers;
  backend::Tensor final_norm, final_norm_bias;  ///< [hidden]
  backend::Tensor lm_head;  ///< [vocabulary, hidden]; empty: the embedding is the head
  backend::Tensor
      rope_freq_factors;  ///< [head_dim / 2]; runners use Config::rope, where they are as well

  const backend::Tensor& lm_head_or_embedding() const { return lm_head ? lm_head : embedding; }
};

/// Sizes that shapes are made of.
enum class Dim {
  one,
  vocabulary,
  context,
  hidden,
  heads,
  head_dim,
  half_head_dim,  ///< head_dim / 2
  q,              ///< heads * head_dim
  kv,             ///< kv_heads * head_dim
  qkv,            ///< q and twice kv
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
  lm_head,    ///< logits
  expert,     ///< MXFP4 in the released checkpoints
};

/// How files hold a tensor, where it is not simply as mxgpt does.
struct FileLayout {
  /// A file may be without it; then its Tensor is empty.
  bool optional = false;

  // The rest is of checkpoints alone: a GGUF file has every tensor in mxgpt's orientation.

  /// gpt-oss experts: `name_blocks` and `name_scales` in MXFP4, or else `name` in
  /// [slices][k][rows], transposed.
  bool stacked_experts = false;
  /// Rows start, start + stride, … of the checkpoint's are this tensor's: gate and up alternate.
  int row_start = 0, row_stride = 1;
  /// [k][rows] instead of [rows][k], as GPT-2's Conv1D.
  bool transposed = false;
  /// Rows of a head (or of its bias) are in halves; mxgpt and GGUF files of this architecture have
  /// the two of a rotated pair side by side (RopePairs::neighbours).
  bool permute_rope = false;
  /// The norm multiplies by 1 + weight; mxgpt and GGUF files hold the sum.
  bool plus_one = false;
};

struct TensorSpec {
  std::string_view gguf;        ///< "blk.{}.attn_q.weight"; {} is the layer
  std::string_view checkpoint;  ///< "model.layers.{}.self_attn.q_proj.weight"; empty: not there
  std::variant<backend::Tensor Weights::*, backend::Tensor Layer::*> member;
  Dim num_experts, rows, k;  ///< a vector is `one` row of k; per expert: slices of k
  Role role;
  FileLayout layout = {};

  bool refers_to(backend::Tensor Weights::*weights_member) const {
    const auto* held_member = std::get_if<backend::Tensor Weights::*>(&member);
    return held_member && *held_member == weights_member;
  }
  /// How many a model has of it: one a layer, or one.
  int64_t count(const Config& config) const { return per_layer() ? config.layers : 1; }
  bool per_layer() const { return std::holds_alternative<backend::Tensor Layer::*>(member); }
  backend::Tensor& get(Weights& weights, int64_t layer) const;
  std::string gguf_name(int64_t layer) const;
  std::string checkpoint_name(int64_t layer) const;
  /// Outermost first, without the dimensions that are `one`.
  std::vector<int64_t> shape(const Config& config) const;
};

/// A tensor in host memory in mxgpt's own orientation (that of GGUF files). `owner` keeps the bytes
/// alive.
struct HostTensor {
  quant::Format format = quant::Format::f32;
  std::vector<int64_t> shape;  ///< as TensorSpec::shape gives it
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

}  // namespace mxgpt::model
