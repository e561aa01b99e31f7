// `mxgpt quantize`: quantizes a model by a recipe.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/escape.h"
#include "cli/command.h"
#include "cli/gguf_export.h"
#include "model/importance_matrix.h"
#include "model/quant_recipe.h"

namespace mxgpt::cli {

namespace {

struct Options {
  ModelConversion files;
  std::string recipe;
  std::vector<std::string> overrides;
  std::filesystem::path imatrix;
  bool scale_search = false;
};

std::string recipe_list() {
  std::string text;
  for (const quant::Recipe& recipe : quant::recipes())
    text += fmt::format("  {:<11}{}\n", recipe.name, recipe.summary);
  return text;
}

/// Throws Error if the importance matrix matches no tensor, and so belongs to another model.
void require_importance(const model::ImportanceMatrix& importance,
                        const std::vector<model::PlannedTensor>& plan, const std::string& where) {
  size_t found = 0;
  for (const model::PlannedTensor& tensor : plan) {
    if (!importance.contains(tensor.name)) continue;
    importance.find(tensor, 0);  // throws if the shape differs
    ++found;
  }
  if (found == 0)
    throw Error(where, "matches no tensor of the model", "use an importance matrix of this model");
}

/// Records the importance matrix in the file, under llama.cpp's keys.
void describe_importance(const Options& options, const model::ImportanceMatrix& importance,
                         io::GgufWriter& out) {
  out.add<std::string_view>("quantize.imatrix.file",
                            escape_for_terminal(options.imatrix.filename().string()));
  out.add<std::string_view>("quantize.imatrix.dataset",
                            escape_for_terminal(importance.dataset(), 1000));
  out.add<uint32_t>("quantize.imatrix.entries_count", static_cast<uint32_t>(importance.size()));
  out.add<uint32_t>("quantize.imatrix.chunks_count", static_cast<uint32_t>(importance.chunks()));
}

int quantize(const Options& options) {
  const quant::Recipe& recipe = quant::find_recipe(options.recipe);
  std::vector<quant::FormatOverride> overrides;
  for (const std::string& text : options.overrides)
    overrides.push_back(quant::FormatOverride::parse(text));
  std::optional<model::ImportanceMatrix> importance;
  if (!options.imatrix.empty()) importance = model::ImportanceMatrix::open(options.imatrix);
  std::vector<float> ones;
  return options.files.run([&](const model::ModelFile& model) {
    ModelConversion::Plan plan{.tensors = model::plan_recipe(model, recipe, overrides),
                               .file_type = recipe.file_type};
    if (options.scale_search) {
      for (const model::PlannedTensor& tensor : plan.tensors)
        ones.resize(std::max<size_t>(ones.size(), tensor.k()), 1.0f);
    }
    plan.importance = [&](const model::PlannedTensor& tensor, int64_t slice) {
      const float* found = importance ? importance->find(tensor, slice) : nullptr;
      return found || ones.empty() ? found : ones.data();
    };
    if (importance) {
      require_importance(*importance, plan.tensors, options.imatrix.string());
      plan.add_metadata = [&](io::GgufWriter& out) {
        describe_importance(options, *importance, out);
      };
    }
    return plan;
  });
}

}  // namespace

std::function<int()> quantize(CommandOptions& command) {
  auto options = std::make_shared<Options>();
  options->files.declare(command);
  command.text("--recipe|--to", options->recipe, "Recipe to apply, see below")
      .required()
      .metavar("RECIPE");
  command
      .texts("--tensor-type|--tensor", options->overrides,
             "Use another format for tensors whose names match a pattern, such as "
             "'blk.*.attn_v.weight=q6_k'; repeatable, the first match wins")
      .metavar("PATTERN=FORMAT");
  command
      .path("--imatrix", options->imatrix,
            "Weight errors by an importance matrix, from `mxgpt imatrix` or llama.cpp (GGUF); "
            "implies --scale-search")
      .metavar("FILE.gguf");
  command.flag("--scale-search", options->scale_search,
               "Search for the scales with the least squared error, where the format's standard "
               "rule is not optimal (MXFP4, Q4_0 to Q5_1)");
  command.footer(
      "Recipes:\n" + recipe_list() +
      "Norms, biases, the router and learned positions are always F32. A quantized tensor is\n"
      "left as it is if the recipe would not make it smaller, such as gpt-oss's MXFP4 experts\n"
      "under q4_k_m. If a row is not a multiple of a format's block size, another format is\n"
      "used; the output lists such tensors.\n"
      "Example: mxgpt quantize gpt-oss-20b gpt-oss-20b.gguf --recipe mxfp4-moe");
  return [options] { return quantize(*options); };
}

}  // namespace mxgpt::cli
