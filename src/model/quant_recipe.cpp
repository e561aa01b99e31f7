#include "model/quant_recipe.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/escape.h"

namespace mxgpt::model {

namespace {

using enum quant::Format;

/// llama.cpp's use_more_bits.
bool wants_more_bits(int64_t layer, int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

quant::Format recipe_format(const quant::Recipe& recipe, const Config& config, bool tied,
                            const TensorSpec& spec, int64_t layer) {
  const auto is = [&](std::string_view name) { return spec.gguf == name; };
  if (is_always_f32(spec)) return f32;
  if (spec.role == Role::lm_head || (tied && spec.role == Role::embedding)) return recipe.lm_head;
  const quant::Format default_format = spec.role == Role::expert ? recipe.experts : recipe.base;
  if (!recipe.more_bits) return default_format;
  // Mixtral-like models with 8 experts: attention is small relative to the experts.
  if (config.experts == 8) {
    if (is("blk.{}.attn_k.weight") || is("blk.{}.attn_v.weight")) return q8_0;
    if (is("blk.{}.attn_output.weight")) return q5_k;
  }
  const bool values = is("blk.{}.attn_v.weight") || is("blk.{}.attn_qkv.weight");
  if ((values || spec.gguf.starts_with("blk.{}.ffn_down")) && wants_more_bits(layer, config.layers))
    return *recipe.more_bits;
  return default_format;
}

bool is_quantizable(const TensorSpec& spec) {
  return spec.role != Role::vector;
}

const quant::FormatOverride* find_override(const std::vector<quant::FormatOverride>& overrides,
                                           std::string_view name) {
  const auto found = std::find_if(overrides.begin(), overrides.end(),
                                  [&](const quant::FormatOverride& o) { return o.matches(name); });
  return found == overrides.end() ? nullptr : &*found;
}

}  // namespace

FormatRule recipe_rule(const quant::Recipe& recipe, const Config& config, bool tied,
                       std::vector<quant::FormatOverride> overrides) {
  return [=](const TensorSpec& spec, int64_t layer, quant::Format from) {
    if (is_quantizable(spec)) {
      if (const quant::FormatOverride* chosen =
              find_override(overrides, TensorRef{&spec, layer}.gguf_name()))
        return chosen->format;
    }
    const quant::Format wanted = recipe_format(recipe, config, tied, spec, layer);
    const quant::Format to = fallback_format(wanted, dim(config, spec.k));
    const bool saves_nothing =
        is_quantized(from) && is_quantized(to) && bits_per_weight(to) >= bits_per_weight(from);
    return saves_nothing ? from : wanted;
  };
}

std::vector<PlannedTensor> plan_recipe(const ModelFile& model, const quant::Recipe& recipe,
                                       const std::vector<quant::FormatOverride>& overrides) {
  const auto specs = model.architecture().tensors;
  const bool tied = std::none_of(specs.begin(), specs.end(), [&](const TensorSpec& spec) {
    return spec.role == Role::lm_head && model.has({&spec, 0});
  });
  auto plan = plan_tensors(model, recipe_rule(recipe, model.config(), tied, overrides));
  for (const quant::FormatOverride& o : overrides) {
    const bool changes = std::any_of(plan.begin(), plan.end(), [&](const PlannedTensor& tensor) {
      return is_quantizable(*tensor.spec) && o.matches(tensor.name);
    });
    if (!changes) {
      throw Error(
          field::kTensorFormat,
          fmt::format("'{}' matches no weight of the model", escape_for_terminal(o.pattern)),
          "`mxgpt inspect` lists the names; norms and biases are always f32");
    }
  }
  return plan;
}

}  // namespace mxgpt::model
