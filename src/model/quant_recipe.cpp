#include "model/quant_recipe.h"

#include <fmt/format.h>
#include <strings.h>

#include <algorithm>

#include "base/error.h"
#include "base/escape.h"

namespace mxgpt::model {

namespace {

using enum quant::Format;

// Types by tensor and numbers of file types are llama.cpp's (src/llama-quant.cpp,
// include/llama.h), as of 2026; there, too, the head of a quantized model is Q6_K or better.
constexpr Recipe kRecipes[] = {
    {"mxfp4-moe", "experts MXFP4, everything else Q8_0", 38, q8_0, q8_0, mxfp4},
    {"mxfp4-all", "MXFP4: embedding, attention, MLPs, experts and head", 38, mxfp4, mxfp4, mxfp4},
    {"q8_0", "Q8_0", 7, q8_0, q8_0, q8_0},
    {"q6_k", "Q6_K", 18, q6_k, q6_k, q6_k},
    {"q5_k_m", "Q5_K, more bits where they count: Q6_K", 17, q5_k, q6_k, q5_k, q6_k},
    {"q4_k_m", "Q4_K, more bits where they count: Q6_K", 15, q4_k, q6_k, q4_k, q6_k},
    {"q5_k", "Q5_K, head Q6_K", 16, q5_k, q6_k, q5_k},
    {"q4_k", "Q4_K, head Q6_K", 14, q4_k, q6_k, q4_k},
    {"q3_k", "Q3_K, head Q6_K", 11, q3_k, q6_k, q3_k},
    {"q2_k", "Q2_K, head Q6_K", 21, q2_k, q6_k, q2_k},
    {"q5_1", "Q5_1, head Q6_K", 9, q5_1, q6_k, q5_1},
    {"q5_0", "Q5_0, head Q6_K", 8, q5_0, q6_k, q5_0},
    {"q4_1", "Q4_1, head Q6_K", 3, q4_1, q6_k, q4_1},
    {"q4_0", "Q4_0, head Q6_K", 2, q4_0, q6_k, q4_0},
    {"iq4_nl", "IQ4_NL, head Q6_K", 25, iq4_nl, q6_k, iq4_nl},
    {"iq4_xs", "IQ4_XS, head Q6_K", 30, iq4_xs, q6_k, iq4_xs},
    {"bf16", "BF16: exact for a BF16 checkpoint and for MXFP4", 32, bf16, bf16, bf16},
    {"f16", "F16", 1, f16, f16, f16},
    {"f32", "F32: exact for all", 0, f32, f32, f32},
};

/// llama.cpp's use_more_bits.
bool wants_more_bits(int64_t layer, int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

quant::Format recipe_format(const Recipe& recipe, const Config& config, bool tied,
                            const TensorSpec& spec, int64_t layer) {
  const auto is = [&](std::string_view name) { return spec.gguf == name; };
  if (is_always_f32(spec)) return f32;
  if (spec.role == Role::lm_head || (tied && spec.role == Role::embedding)) return recipe.lm_head;
  const quant::Format default_format = spec.role == Role::expert ? recipe.experts : recipe.base;
  if (!recipe.more_bits) return default_format;
  // Mixtral's kind, whose attention is small beside its eight experts.
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

const FormatOverride* find_override(const std::vector<FormatOverride>& overrides,
                                    std::string_view name) {
  const auto found = std::find_if(overrides.begin(), overrides.end(),
                                  [&](const FormatOverride& o) { return o.matches(name); });
  return found == overrides.end() ? nullptr : &*found;
}

}  // namespace

std::span<const Recipe> recipes() {
  return kRecipes;
}

const Recipe& find_recipe(std::string_view name) {
  const auto found = std::find_if(std::begin(kRecipes), std::end(kRecipes), [&](const Recipe& r) {
    return r.name.size() == name.size() &&
           ::strncasecmp(r.name.data(), name.data(), name.size()) == 0;
  });
  if (found == std::end(kRecipes)) {
    throw Error(escape_for_terminal(name, 100), "is no recipe",
                "`mxgpt quantize --help` lists them");
  }
  return *found;
}

FormatOverride FormatOverride::parse(std::string_view text) {
  const auto fail = [&](const std::string& problem) -> Error {
    return Error("--tensor", fmt::format("'{}' {}", escape_for_terminal(text, 200), problem),
                 "write PATTERN=FORMAT, such as 'blk.*.attn_v.weight=q6_k'");
  };
  const size_t equals = text.rfind('=');
  if (equals == std::string_view::npos || equals == 0) throw fail("names no pattern and format");
  const std::string_view name = text.substr(equals + 1);
  const auto format = quant::format_from_name(name);
  if (!format)
    throw fail(fmt::format("asks for '{}', which is no format", escape_for_terminal(name, 60)));
  return {std::string(text.substr(0, equals)), *format};
}

bool FormatOverride::matches(std::string_view name) const {
  // Greedy, with a return to the last star only: at worst pattern times name.
  size_t p = 0, n = 0;
  size_t star = std::string::npos, star_name = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_name = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string::npos) {
      p = star + 1;
      n = ++star_name;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

FormatRule recipe_rule(const Recipe& recipe, const Config& config, bool tied,
                       std::vector<FormatOverride> overrides) {
  return [=](const TensorSpec& spec, int64_t layer, quant::Format from) {
    if (is_quantizable(spec)) {
      if (const FormatOverride* chosen =
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

std::vector<PlannedTensor> plan_recipe(const ModelFile& model, const Recipe& recipe,
                                       const std::vector<FormatOverride>& overrides) {
  const auto specs = model.architecture().tensors;
  const bool tied = std::none_of(specs.begin(), specs.end(), [&](const TensorSpec& spec) {
    return spec.role == Role::lm_head && model.has({&spec, 0});
  });
  auto plan = plan_tensors(model, recipe_rule(recipe, model.config(), tied, overrides));
  for (const FormatOverride& o : overrides) {
    const bool changes = std::any_of(plan.begin(), plan.end(), [&](const PlannedTensor& tensor) {
      return is_quantizable(*tensor.spec) && o.matches(tensor.name);
    });
    if (!changes) {
      throw Error("--tensor",
                  fmt::format("'{}' fits no weight of the model", escape_for_terminal(o.pattern)),
                  "`mxgpt inspect` lists the names; norms and biases are f32 always");
    }
  }
  return plan;
}

}  // namespace mxgpt::model
