// Quantization recipes applied to a model: which format each tensor gets.
#pragma once

#include <vector>

#include "model/convert.h"
#include "quant/recipe.h"

namespace mxgpt::model {

/// Rule that applies a recipe to a model. The first matching override wins. Vectors, the router and
/// learned positions are f32. A quantized tensor keeps its format if the recipe would not save
/// bits, since requantizing only adds error. `tied`: the embedding is the output head as well.
FormatRule recipe_rule(const quant::Recipe& recipe, const Config& config, bool tied,
                       std::vector<quant::FormatOverride> overrides = {});

/// Plans the model's tensors by a recipe. Throws Error if an override matches no weight.
std::vector<PlannedTensor> plan_recipe(const ModelFile& model, const quant::Recipe& recipe,
                                       const std::vector<quant::FormatOverride>& overrides = {});

}  // namespace mxgpt::model
