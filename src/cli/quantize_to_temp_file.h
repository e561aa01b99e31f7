// A model quantized by a recipe into a temporary file.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

#include "model/quant_recipe.h"
#include "runtime/model.h"

namespace mxgpt::cli {

/// The recipe called `name`; null if there is none, or if a file has that name.
const quant::Recipe* recipe_unless_path(const std::filesystem::path& name);

struct TemporaryModel {
  std::shared_ptr<const runtime::Model> model;
  uint64_t bytes;
};

/// Quantizes `source`, without its tokenizer, into a file in TMPDIR that is unlinked once open, so
/// that nothing remains however the program ends. Calls `progress` with the total bytes; calls its
/// result with the bytes written. Both may throw.
using StartProgress = std::function<std::function<void(uint64_t)>(uint64_t bytes)>;
TemporaryModel quantize_to_temp_file(const model::ModelFile& source, const quant::Recipe& recipe,
                                     const StartProgress& progress);

}  // namespace mxgpt::cli
