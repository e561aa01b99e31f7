#include "apps/quantized_copy.h"

#include <fmt/format.h>
#include <unistd.h>

#include "apps/gguf_output.h"

namespace mxgpt::apps {

namespace fs = std::filesystem;

const Recipe* recipe_of(const fs::path& name) {
  if (fs::exists(name)) return nullptr;
  for (const Recipe& recipe : recipes()) {
    if (recipe.name == name.string()) return &recipe;
  }
  return nullptr;
}

QuantizedCopy quantized_copy(const Model& source, const Recipe& recipe,
                             const StartProgress& progress) {
  const fs::path path =
      fs::temp_directory_path() / fmt::format("mxgpt-{}-{}.gguf", ::getpid(), recipe.name);
  const auto plan = plan_recipe(source, recipe);
  const uint64_t bytes = total_bytes(plan);
  GgufOutput{.path = path}.check_space(bytes);
  {
    GgufWriter writer(path);
    describe_model(source, recipe.file_type, "", writer);
    write_tensors(source, plan, {}, writer, progress(bytes));
    writer.finish();
  }
  struct Removed {
    const fs::path& path;
    ~Removed() {
      std::error_code ignored;
      fs::remove(path, ignored);
    }
  } const removed{path};
  return {.model = Model::open(path), .bytes = fs::file_size(path)};
}

}  // namespace mxgpt::apps
