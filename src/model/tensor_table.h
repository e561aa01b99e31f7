// The tensor table of an architecture: names, shape and role of each tensor. It is the only place
// that knows them; the loader, converter, quantizer and planner walk it through tensor_refs().
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "model/config.h"
#include "model/weights.h"

namespace mxgpt::model {

/// Dimensions of tensors, as functions of the configuration.
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
  qkv,            ///< q + 2 * kv
  intermediate,
  gate_up,  ///< 2 * intermediate
  experts,
};
int64_t dim(const Config& config, Dim d);

/// The purpose of a tensor, which decides how it may be stored.
enum class Role {
  vector,     ///< norms, biases, sinks: always f32 once loaded or written
  router,     ///< small and sensitive: f32 in GGUF files
  embedding,  ///< token or position embedding, read by row
  dense,      ///< projections of attention and of dense MLPs
  lm_head,    ///< logits
  expert,     ///< MXFP4 in the released checkpoints
};

/// How a file stores a tensor where that differs from mxgpt's own layout.
struct FileLayout {
  /// A file may lack the tensor; its Tensor is then empty.
  bool optional = false;

  // The members below concern checkpoints only: GGUF files store every tensor as mxgpt does.

  /// gpt-oss experts: `name_blocks` and `name_scales` in MXFP4, or else `name` transposed, as
  /// [experts][k][rows].
  bool stacked_experts = false;
  /// The tensor consists of the checkpoint's rows start, start + stride, …: gate and up alternate.
  int row_start = 0, row_stride = 1;
  /// Stored as [k][rows] instead of [rows][k], as in GPT-2's Conv1D.
  bool transposed = false;
  /// The rows of each head are stored as two halves (RopeStyle::neox); mxgpt and GGUF files of this
  /// architecture interleave the rows of a rotated pair (RopeStyle::interleaved).
  bool permute_rope = false;
  /// The norm multiplies by 1 + weight; mxgpt and GGUF files store the sum.
  bool plus_one = false;
};

/// A row of the table: one tensor of the model, or one per layer.
struct TensorSpec {
  std::string_view gguf;        ///< "blk.{}.attn_q.weight"; {} is the layer
  std::string_view checkpoint;  ///< "model.layers.{}.self_attn.q_proj.weight"; empty: not stored
  std::variant<backend::Tensor Weights::*, backend::Tensor Layer::*> member;
  Dim num_experts, rows, k;  ///< a vector is `one` row of k, or one row of k per expert
  Role role;
  FileLayout layout = {};

  bool refers_to(backend::Tensor Weights::*tensor) const {
    const auto* own = std::get_if<backend::Tensor Weights::*>(&member);
    return own && *own == tensor;
  }
  bool refers_to(backend::Tensor Layer::*tensor) const {
    const auto* own = std::get_if<backend::Tensor Layer::*>(&member);
    return own && *own == tensor;
  }
  bool per_layer() const { return std::holds_alternative<backend::Tensor Layer::*>(member); }
  /// Outermost dimension first, without dimensions that are `one`.
  std::vector<int64_t> shape(const Config& config) const;
};

/// One tensor of a model: a row of the table and, for a per-layer row, the layer.
struct TensorRef {
  const TensorSpec* spec = nullptr;
  int64_t layer = 0;  ///< 0 for a tensor outside the layers

  std::string gguf_name() const;
  std::string checkpoint_name() const;
  backend::Tensor& get(Weights& weights) const;
  const backend::Tensor& get(const Weights& weights) const;
};

/// Every tensor that the table describes, row by row, layers ascending within a row. Optional
/// tensors are included; ModelFile::tensors() has only those that a file contains.
std::vector<TensorRef> tensor_refs(std::span<const TensorSpec> table, const Config& config);

}  // namespace mxgpt::model
