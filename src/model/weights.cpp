#include "model/weights.h"

#include <fmt/format.h>

namespace mxgpt::model {

int64_t dim(const Config& config, Dim d) {
  switch (d) {
    case Dim::one:
      return 1;
    case Dim::vocabulary:
      return config.vocabulary;
    case Dim::context:
      return config.context;
    case Dim::hidden:
      return config.hidden;
    case Dim::heads:
      return config.heads;
    case Dim::head_dim:
      return config.head_dim;
    case Dim::half_head_dim:
      return config.head_dim / 2;
    case Dim::q:
      return config.heads * config.head_dim;
    case Dim::kv:
      return config.kv_heads * config.head_dim;
    case Dim::qkv:
      return (config.heads + 2 * config.kv_heads) * config.head_dim;
    case Dim::intermediate:
      return config.intermediate;
    case Dim::gate_up:
      return 2 * config.intermediate;
    case Dim::experts:
      return config.experts;
  }
  return 0;
}

backend::Tensor& TensorSpec::get(Weights& weights, int64_t layer) const {
  if (const auto* layer_member = std::get_if<backend::Tensor Layer::*>(&member))
    return weights.layers[layer].**layer_member;
  return weights.*std::get<backend::Tensor Weights::*>(member);
}

std::string TensorSpec::gguf_name(int64_t layer) const {
  return fmt::format(fmt::runtime(gguf), layer);
}

std::string TensorSpec::checkpoint_name(int64_t layer) const {
  return fmt::format(fmt::runtime(checkpoint), layer);
}

std::vector<int64_t> TensorSpec::shape(const Config& config) const {
  std::vector<int64_t> shape;
  for (Dim d : {num_experts, rows, k}) {
    if (d != Dim::one) shape.push_back(dim(config, d));
  }
  return shape;
}

}  // namespace mxgpt::model
