#include "model/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "model/cpu_runner.h"

namespace mxgpt {

namespace {

// Estimates of what is not counted, measured on x86-64; tests/apps/test_plan.py holds the sum to
// what really comes of it.
constexpr size_t kProgramBytes = 21'300'000;   ///< code, libraries, and what threads allocate
constexpr size_t kVocabularyTokenBytes = 320;  ///< strings, merges and tables of a vocabulary
constexpr size_t kTextTokenBytes = 384;        ///< a token's way from text to the cache

bool is_mlp(const TensorSpec& spec) {
  const auto* member = std::get_if<Tensor Layer::*>(&spec.member);
  if (!member) return false;
  const Tensor Layer::*const parts[] = {&Layer::gate, &Layer::up, &Layer::gate_up, &Layer::down};
  return std::find(std::begin(parts), std::end(parts), *member) != std::end(parts);
}

constexpr std::string_view kParts[] = {"embedding", "attention", "MLP",
                                       "experts",   "head",      "norms, biases, routers"};

std::string_view part_of(const TensorSpec& spec) {
  switch (spec.role) {
    case Role::embedding:
      return kParts[0];
    case Role::dense:
      return is_mlp(spec) ? kParts[2] : kParts[1];
    case Role::expert:
      return kParts[3];
    case Role::head:
      return kParts[4];
    case Role::router:
    case Role::vector:
      break;
  }
  return kParts[5];
}

/// f(spec, layer) for every tensor that the model has.
template <class F>
void for_tensors(const Model& model, const F& f) {
  for (const TensorSpec& spec : model.architecture().tensors) {
    for (int64_t layer = 0; layer < spec.layers(model.config()); ++layer) {
      if (model.has(spec, layer)) f(spec, layer);
    }
  }
}

}  // namespace

Format kv_format(const Config& config, const RunnerOptions& options) {
  const Format format =
      options.kv.value_or(options.precision == Precision::exact ? Format::f32 : Format::f16);
  const FormatTraits& t = traits(format);
  if (format != Format::f32 && format != Format::f16 && format != Format::bf16 &&
      format != Format::q8_0) {
    throw Error("--kv", fmt::format("a KV cache cannot be {}", t.name),
                "take f16, bf16, q8_0 or f32");
  }
  if (config.head_dim % t.block_elements != 0) {
    throw Error("--kv",
                fmt::format("{} has blocks of {} numbers, which do not divide this model's heads "
                            "of {}",
                            t.name, t.block_elements, config.head_dim),
                "take f16 or bf16");
  }
  return format;
}

int64_t kv_page_bytes(const Config& c, const RunnerOptions& options) {
  return kPageTokens * c.kv_heads * traits(kv_format(c, options)).row_bytes(c.head_dim);
}

size_t MemoryPlan::mapped_weights() const {
  size_t sum = 0;
  for (const Weights& part : weights) sum += part.mapped;
  return sum;
}

size_t MemoryPlan::own_weights() const {
  size_t sum = 0;
  for (const Weights& part : weights) sum += part.own;
  return sum;
}

size_t MemoryPlan::kv_bytes() const {
  size_t sum = 0;
  for (const Kv& group : kv) sum += group.bytes;
  return sum;
}

size_t MemoryPlan::total() const {
  return mapped_weights() + own_weights() + kv_bytes() + workspace + program;
}

MemoryPlan plan_memory(const Model& model, const RunnerOptions& options) {
  const Config& c = model.config();
  MemoryPlan plan;
  for (const std::string_view part : kParts) plan.weights.push_back({.part = part});
  for_tensors(model, [&](const TensorSpec& spec, int64_t layer) {
    const std::string_view name = part_of(spec);
    auto part = std::find_if(plan.weights.begin(), plan.weights.end(),
                             [&](const auto& known) { return known.part == name; });
    const Model::Held held = model.held(spec, layer);
    ++part->tensors;
    (held.mapped ? part->mapped : part->own) += held.bytes;
  });
  std::erase_if(plan.weights, [](const auto& part) { return part.tensors == 0; });

  const auto page = static_cast<size_t>(2 * kv_page_bytes(c, options));  // keys and values
  for (int64_t layer = 0; layer < c.layers; ++layer)
    ++plan.kv[static_cast<int>(c.group(layer))].layers;
  for (int g = 0; g < kKvGroups; ++g) {
    MemoryPlan::Kv& group = plan.kv[g];
    group.bytes_per_token = group.layers * page / kPageTokens;
    group.bytes = group.layers * page * options.pages[g];
  }
  plan.workspace = CpuMemory::workspace_bytes(c, options);
  const int64_t cached = options.pages[static_cast<int>(KvGroup::full)] * kPageTokens;
  plan.program = kProgramBytes + kVocabularyTokenBytes * c.vocabulary + kTextTokenBytes * cached;
  return plan;
}

TokenBytes bytes_per_token(const Model& model, const RunnerOptions& options, int64_t depth) {
  const Config& c = model.config();
  TokenBytes result;
  bool has_head = false;
  size_t embedding = 0;
  for_tensors(model, [&](const TensorSpec& spec, int64_t layer) {
    const size_t bytes = model.held(spec, layer).bytes;
    if (spec.role == Role::embedding) {
      // A row of each table, which is nothing, unless the table is the head as well.
      if (spec.is(&Weights::embedding)) embedding = bytes;
      return;
    }
    has_head |= spec.role == Role::head;
    result.weights += spec.role == Role::expert ? bytes / c.experts * c.top_k : bytes;
  });
  if (!has_head) result.weights += embedding;

  const auto per_token = static_cast<size_t>(2 * kv_page_bytes(c, options) / kPageTokens);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const bool slides = c.group(layer) == KvGroup::window;
    result.kv += per_token * (slides ? std::min(depth, c.window) : depth);
  }
  return result;
}

}  // namespace mxgpt
