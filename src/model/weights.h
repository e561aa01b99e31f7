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
  Tensor attn_norm;                     ///< [hidden]
  Tensor q, q_bias;                     ///< [heads * head_dim, hidden]
  Tensor k, k_bias, v, v_bias;          ///< [kv_heads * head_dim, hidden]
  Tensor sinks;                         ///< [heads]
  Tensor o, o_bias;                     ///< [hidden, heads * head_dim]
  Tensor mlp_norm;                      ///< [hidden]
  Tensor router, router_bias;           ///< [experts, hidden]
  Tensor gate, gate_bias, up, up_bias;  ///< [experts][intermediate, hidden]
  Tensor down, down_bias;               ///< [experts][hidden, intermediate]
};

struct Weights {
  Tensor embedding;  ///< [vocabulary, hidden]
  std::vector<Layer> layers;
  Tensor norm;  ///< [hidden]
  Tensor head;  ///< [vocabulary, hidden]
};

/// Sizes that shapes are made of.
enum class Dim { one, vocabulary, hidden, heads, q, kv, intermediate, experts };
int64_t dim(const Config& config, Dim d);

/// What a tensor is for, which decides how it may be stored.
enum class Role {
  vector,     ///< norms, biases, sinks: f32 wherever mxgpt holds or writes them
  router,     ///< small and decisive: f32 in GGUF files
  embedding,  ///< rows are looked up
  dense,      ///< attention's projections, and dense MLPs
  head,       ///< logits
  expert,     ///< MXFP4 in the released checkpoints
};

/// How a checkpoint holds a tensor, where it is not simply the same.
struct CheckpointLayout {
  /// gpt-oss experts: `name_blocks` and `name_scales` in MXFP4, or else `name` in
  /// [slices][k][rows], transposed.
  bool experts = false;
  /// Rows start, start + stride, … of the checkpoint's are this tensor's: gate and up alternate.
  int row_start = 0, row_stride = 1;
};

struct TensorSpec {
  std::string_view gguf;        ///< "blk.{}.attn_q.weight"; {} is the layer
  std::string_view checkpoint;  ///< "model.layers.{}.self_attn.q_proj.weight"
  std::variant<Tensor Weights::*, Tensor Layer::*> member;
  Dim slices, rows, k;  ///< a vector is `one` row of k; per expert: slices of k
  Role role;
  CheckpointLayout layout = {};

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
