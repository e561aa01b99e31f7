// A model under a recipe, for as long as it is looked at.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

#include "model/model.h"
#include "numerics/recipe.h"

namespace mxgpt::apps {

/// Null if `name` is none, or is a file as well.
const Recipe* recipe_of(const std::filesystem::path& name);

struct QuantizedCopy {
  std::shared_ptr<const Model> model;
  uint64_t bytes;
};

/// In a file in the folder for temporary files (TMPDIR), which loses its name as soon as it is
/// open: nothing remains, however the program ends. Without the tokenizer. `progress` is told how
/// many bytes there are, and gives what hears of bytes written; that may throw.
using StartProgress = std::function<std::function<void(uint64_t)>(uint64_t bytes)>;
QuantizedCopy quantized_copy(const Model& source, const Recipe& recipe,
                             const StartProgress& progress);

}  // namespace mxgpt::apps
