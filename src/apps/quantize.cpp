// `mxgpt quantize`: a model in another format, tensor by tensor as a recipe has it.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "apps/command.h"
#include "apps/gguf_output.h"
#include "numerics/recipe.h"

namespace mxgpt::apps {

namespace {

struct Options {
  ModelRewrite files;
  std::string recipe;
  std::vector<std::string> overrides;
  bool scale_search = false;
};

std::string recipe_list() {
  std::string text;
  for (const Recipe& recipe : recipes())
    text += fmt::format("  {:<11}{}\n", recipe.name, recipe.summary);
  return text;
}

int quantize(const Options& options) {
  const Recipe& recipe = recipe_named(options.recipe);
  std::vector<FormatOverride> overrides;
  for (const std::string& text : options.overrides)
    overrides.push_back(FormatOverride::parse(text));
  std::vector<float> ones;
  return options.files.run([&](const Model& model) {
    ModelRewrite::Plan plan{.tensors = plan_recipe(model, recipe, overrides),
                            .file_type = recipe.file_type};
    if (options.scale_search) {
      for (const PlannedTensor& tensor : plan.tensors)
        ones.resize(std::max<size_t>(ones.size(), tensor.k()), 1.0f);
      plan.importance = [&](const PlannedTensor&, int64_t) { return ones.data(); };
    }
    return plan;
  });
}

}  // namespace

std::function<int()> quantize(CLI::App& command) {
  auto options = std::make_shared<Options>();
  options->files.declare(command);
  command.add_option("--to", options->recipe, "What to make of it, see below")
      ->required()
      ->type_name("RECIPE");
  command
      .add_option("--tensor", options->overrides,
                  "Another format for the tensors whose names fit a pattern, such as "
                  "'blk.*.attn_v.weight=q6_k'; may be given several times, the first that fits "
                  "counts")
      ->type_name("PATTERN=FORMAT")
      ->expected(1)
      ->take_all();
  command.add_flag("--scale-search", options->scale_search,
                   "Take the scales that give the least squared error, where a format prescribes "
                   "others (MXFP4, Q4_0 to Q5_1)");
  command.footer("Recipes:\n" + recipe_list() +
                 "Norms, biases, the router and learned positions are f32 in all of them. A tensor "
                 "that is quantized\n"
                 "already stays as it is where the recipe would not save bits, as gpt-oss's MXFP4 "
                 "experts in q4_k_m. A\n"
                 "type whose blocks do not divide the rows gives way to another; the end of the "
                 "output lists such tensors.\n"
                 "Example: mxgpt quantize gpt-oss-20b gpt-oss-20b.gguf --to mxfp4-moe");
  return [options] { return quantize(*options); };
}

}  // namespace mxgpt::apps
