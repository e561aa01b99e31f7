// A model under a recipe, for as long as it is looked at.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

#include "model/quant_recipe.h"
#include "runtime/model.h"

namespace mxgpt::cli {

/// Null if `name` is none, or is a file as well.
const quant::Recipe* recipe_unless_path(const std::filesystem::path& name);

struct TemporaryModel {
  std::shared_ptr<const runtime::Model> model;
  uint64_t bytes;
};

/// In a file in the folder for temporary files (TMPDIR), which loses its name as soon as it is
/// open: nothing remains, however the program ends. Without the tokenizer. `progress` is told how
/// many bytes there are, and gives what hears of bytes written; that may throw.
using StartProgress = std::function<std::function<void(uint64_t)>(uint64_t bytes)>;
TemporaryModel quantize_to_temp_file(const model::ModelFile& source, const quant::Recipe& recipe,
                                     const StartProgress& progress);

}  // namespace mxgpt::cli
