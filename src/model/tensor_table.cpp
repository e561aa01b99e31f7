#include "model/tensor_table.h"

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

std::vector<int64_t> TensorSpec::shape(const Config& config) const {
  std::vector<int64_t> shape;
  for (const Dim d : {num_experts, rows, k}) {
    if (d != Dim::one) shape.push_back(dim(config, d));
  }
  return shape;
}

std::string TensorRef::gguf_name() const {
  return fmt::format(fmt::runtime(spec->gguf), layer);
}

std::string TensorRef::checkpoint_name() const {
  return fmt::format(fmt::runtime(spec->checkpoint), layer);
}

backend::Tensor& TensorRef::get(Weights& weights) const {
  if (const auto* of_layer = std::get_if<backend::Tensor Layer::*>(&spec->member))
    return weights.layers[layer].**of_layer;
  return weights.*std::get<backend::Tensor Weights::*>(spec->member);
}

const backend::Tensor& TensorRef::get(const Weights& weights) const {
  return get(const_cast<Weights&>(weights));
}

std::vector<TensorRef> tensor_refs(std::span<const TensorSpec> table, const Config& config) {
  std::vector<TensorRef> refs;
  for (const TensorSpec& spec : table) {
    const int64_t count = spec.per_layer() ? config.layers : 1;
    for (int64_t layer = 0; layer < count; ++layer) refs.push_back({&spec, layer});
  }
  return refs;
}

}  // namespace mxgpt::model
