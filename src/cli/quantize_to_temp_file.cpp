#include "cli/quantize_to_temp_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include "cli/gguf_export.h"

namespace mxgpt::cli {

namespace fs = std::filesystem;

const quant::Recipe* recipe_unless_path(const fs::path& name) {
  if (fs::exists(name)) return nullptr;
  for (const quant::Recipe& recipe : quant::recipes()) {
    if (recipe.name == name.string()) return &recipe;
  }
  return nullptr;
}

TemporaryModel quantize_to_temp_file(const model::ModelFile& source, const quant::Recipe& recipe,
                                     const StartProgress& progress) {
  const fs::path path =
      fs::temp_directory_path() / fmt::format("mxgpt-{}-{}.gguf", ::getpid(), recipe.name);
  const auto plan = model::plan_recipe(source, recipe);
  const uint64_t bytes = total_bytes(plan);
  GgufDestination{.path = path}.require_space(bytes);
  {
    io::GgufWriter writer(path);
    model::write_model_metadata(source, recipe.file_type, "", writer);
    model::write_tensors(source, plan, {}, writer, progress(bytes));
    writer.finish();
  }
  struct Removed {
    const fs::path& path;
    ~Removed() {
      std::error_code ignored;
      fs::remove(path, ignored);
    }
  } const removed{path};
  return {.model = runtime::Model::open(path), .bytes = fs::file_size(path)};
}

}  // namespace mxgpt::cli
