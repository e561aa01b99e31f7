#include "runtime/host_memory_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "runtime/cpu_executor.h"

namespace mxgpt::runtime {

namespace {

// Estimates measured on x86-64; tests/cli/test_plan.py compares the sum with actual use.
constexpr size_t kProgramBytes = 21'300'000;   ///< code, libraries and thread allocations
constexpr size_t kVocabularyTokenBytes = 320;  ///< strings, merges and tables of a vocabulary
constexpr size_t kTextTokenBytes = 384;        ///< text and token buffers per cached token

bool is_mlp(const model::TensorSpec& spec) {
  using model::Layer;
  return spec.refers_to(&Layer::gate) || spec.refers_to(&Layer::up) ||
         spec.refers_to(&Layer::gate_up) || spec.refers_to(&Layer::down);
}

constexpr std::string_view kWeightGroups[] = {"embedding", "attention", "MLP",
                                              "experts",   "head",      "norms, biases, routers"};

std::string_view weight_group(const model::TensorSpec& spec) {
  switch (spec.role) {
    case model::Role::embedding:
      return kWeightGroups[0];
    case model::Role::dense:
      return is_mlp(spec) ? kWeightGroups[2] : kWeightGroups[1];
    case model::Role::expert:
      return kWeightGroups[3];
    case model::Role::lm_head:
      return kWeightGroups[4];
    case model::Role::router:
    case model::Role::vector:
      break;
  }
  return kWeightGroups[5];
}

}  // namespace

quant::Format kv_format(const model::Config& config, const RunnerOptions& options) {
  const quant::Format format = options.kv_format.value_or(
      options.precision == backend::Precision::exact ? quant::Format::f32 : quant::Format::f16);
  const quant::FormatTraits& t = quant::traits(format);
  if (format != quant::Format::f32 && format != quant::Format::f16 &&
      format != quant::Format::bf16 && format != quant::Format::q8_0) {
    throw Error(field::kKvCacheFormat, fmt::format("{} is not supported", t.name),
                "use f16, bf16, q8_0 or f32");
  }
  if (config.head_dim % t.block_elements != 0) {
    throw Error(field::kKvCacheFormat,
                fmt::format("head size {} is not a multiple of the {}-element block ({})",
                            config.head_dim, t.block_elements, t.name),
                "use f16 or bf16");
  }
  return format;
}

int64_t kv_page_bytes(const model::Config& c, const RunnerOptions& options) {
  return backend::kPageTokens * c.kv_heads *
         quant::traits(kv_format(c, options)).row_bytes(c.head_dim);
}

size_t HostMemoryPlan::mapped_weights() const {
  size_t sum = 0;
  for (const WeightGroup& group : weights) sum += group.mapped_bytes;
  return sum;
}

size_t HostMemoryPlan::private_weights() const {
  size_t sum = 0;
  for (const WeightGroup& group : weights) sum += group.private_bytes;
  return sum;
}

size_t HostMemoryPlan::kv_bytes() const {
  size_t sum = 0;
  for (const KvCache& group : kv) sum += group.bytes;
  return sum;
}

size_t HostMemoryPlan::total() const {
  return mapped_weights() + private_weights() + kv_bytes() + workspace + program;
}

HostMemoryPlan plan_host_memory(const Model& model, const RunnerOptions& options) {
  const model::Config& c = model.config();
  HostMemoryPlan plan;
  for (const std::string_view part : kWeightGroups) plan.weights.push_back({.name = part});
  for (const model::TensorRef& tensor : model.tensors()) {
    const std::string_view name = weight_group(*tensor.spec);
    auto group = std::find_if(plan.weights.begin(), plan.weights.end(),
                              [&](const auto& known) { return known.name == name; });
    const model::HostTensorInfo stored = model.host_tensor_info(tensor);
    ++group->tensors;
    (stored.is_mapped ? group->mapped_bytes : group->private_bytes) += stored.bytes;
  }
  std::erase_if(plan.weights, [](const auto& part) { return part.tensors == 0; });

  const auto page = static_cast<size_t>(2 * kv_page_bytes(c, options));  // keys and values
  for (int64_t layer = 0; layer < c.layers; ++layer)
    ++plan.kv[static_cast<int>(c.kv_group(layer))].layers;
  for (int g = 0; g < backend::kKvGroups; ++g) {
    HostMemoryPlan::KvCache& group = plan.kv[g];
    group.bytes_per_token = group.layers * page / backend::kPageTokens;
    group.bytes = group.layers * page * options.kv_pages[g];
  }
  plan.workspace = CpuExecutor::workspace_bytes(c, options);
  const int64_t cached =
      options.kv_pages[static_cast<int>(backend::KvGroup::full)] * backend::kPageTokens;
  plan.program = kProgramBytes + kVocabularyTokenBytes * c.vocabulary + kTextTokenBytes * cached;
  return plan;
}

DecodeTraffic decode_traffic(const Model& model, const RunnerOptions& options, int64_t depth) {
  const model::Config& c = model.config();
  DecodeTraffic result;
  bool has_head = false;
  size_t embedding = 0;
  for (const model::TensorRef& tensor : model.tensors()) {
    const model::TensorSpec& spec = *tensor.spec;
    const size_t bytes = model.host_tensor_info(tensor).bytes;
    if (spec.role == model::Role::embedding) {
      // One row per table is negligible, unless the table is also the head.
      if (spec.refers_to(&model::Weights::embedding)) embedding = bytes;
      continue;
    }
    has_head |= spec.role == model::Role::lm_head;
    result.weights += spec.role == model::Role::expert ? bytes / c.experts * c.top_k : bytes;
  }
  if (!has_head) result.weights += embedding;

  const auto per_token = static_cast<size_t>(2 * kv_page_bytes(c, options) / backend::kPageTokens);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const bool slides = c.kv_group(layer) == backend::KvGroup::window;
    result.kv += per_token * (slides ? std::min(depth, c.window) : depth);
  }
  return result;
}

}  // namespace mxgpt::runtime
