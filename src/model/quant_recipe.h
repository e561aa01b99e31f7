// Quantization recipes: which format each tensor of a model gets, by name, with exceptions by
// pattern.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/convert.h"

namespace mxgpt::model {

struct Recipe {
  std::string_view name;     ///< "q4_k_m"
  std::string_view summary;  ///< for people
  uint32_t file_type;        ///< general.file_type (llama.cpp, enum llama_ftype)
  quant::Format base;        ///< what nothing else is said about
  quant::Format lm_head;     ///< of the logits, and of an embedding that is the head too
  quant::Format experts;
  /// Of attention's values and of the MLP's way down in those layers that llama.cpp's "M" mixtures
  /// give more bits: the first and the last eighth, and every third between.
  std::optional<quant::Format> more_bits = {};
};

/// All there are, the usual ones first.
std::span<const Recipe> recipes();
/// Case is ignored. Throws Error if there is none of that name.
const Recipe& find_recipe(std::string_view name);

/// "blk.*.attn_v.weight=q6_k": a format for all tensors whose name in the GGUF file fits the
/// pattern, in which * stands for any characters and ? for one.
struct FormatOverride {
  std::string pattern;
  quant::Format format;

  /// Throws Error for text that is none.
  static FormatOverride parse(std::string_view text);
  bool matches(std::string_view name) const;
};

/// The rule of a recipe for one model. Of overrides, the first that matches counts. Vectors, the
/// router and learned positions are f32. A quantized tensor stays as it is where the recipe would
/// only spend as many bits on it, or more: that could not make it better.
/// `tied` says that the embedding is the head as well.
FormatRule recipe_rule(const Recipe& recipe, const Config& config, bool tied,
                       std::vector<FormatOverride> overrides = {});

/// The model's tensors under a recipe. Throws Error if an override matches nothing that it could
/// change.
std::vector<PlannedTensor> plan_recipe(const ModelFile& model, const Recipe& recipe,
                                       const std::vector<FormatOverride>& overrides = {});

}  // namespace mxgpt::model
