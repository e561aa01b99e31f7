// `mxgpt synth`: writes a model with random weights, to measure speed and memory.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/escape.h"
#include "base/version.h"
#include "cli/command.h"
#include "cli/gguf_export.h"
#include "model/synthetic_model.h"
#include "text/tokenizer/gguf_export.h"

namespace mxgpt::cli {

namespace {

namespace fs = std::filesystem;

struct Options {
  std::string shape;
  GgufDestination out;
  fs::path tokenizer;
  std::string recipe;
  int64_t layers = 0;
  uint64_t seed = 0;
};

model::SyntheticModel plan_model(const Options& options) {
  const quant::Recipe* recipe =
      options.recipe.empty() ? nullptr : &quant::find_recipe(options.recipe);
  if (const model::SyntheticShape* shape = model::find_synthetic_shape(options.shape)) {
    const std::string where = fmt::format("{}:", shape->name);
    return model::plan_synthetic_model(json::parse(shape->config, where), where, recipe,
                                       options.layers);
  }
  fs::path config = options.shape;
  if (fs::is_directory(config)) config /= "config.json";
  if (!fs::exists(config)) {
    throw Error("--like",
                fmt::format("'{}' is neither a known shape nor a checkpoint",
                            escape_for_terminal(options.shape, 200)),
                "`mxgpt synth --help` lists the shapes");
  }
  return model::plan_synthetic_model(json::parse_file(config), config.string() + ":", recipe,
                                     options.layers);
}

/// gpt-oss's tokenizer if the vocabulary is large enough, else the shipped model's.
fs::path tokenizer_folder(const Options& options, const model::Config& config) {
  if (!options.tokenizer.empty()) return options.tokenizer;
  constexpr int64_t kGptOssTokens = 201088;
  const fs::path folder = config.vocabulary >= kGptOssTokens
                              ? fs::path(MXGPT_GPT_OSS_TOKENIZER)
                              : fs::path(source_dir()) / "models" / "gpt-oss-nano";
  if (!fs::exists(folder)) {
    throw Error(folder.string(), "the tokenizer from the source tree is missing",
                "choose a directory with --tokenizer");
  }
  return folder;
}

int write_model(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  options.out.require_writable();
  const model::SyntheticModel model = plan_model(options);
  const uint64_t bytes = total_bytes(model.tensors);
  options.out.require_space(bytes);
  const model::Config& config = model.config;

  WriteProgress progress(bytes);
  io::GgufWriter writer(options.out.path);
  writer.add<std::string_view>("general.architecture", model.architecture->gguf);
  writer.add<std::string_view>("general.type", "model");
  writer.add<std::string_view>(
      "general.name", fmt::format("random weights like {}", escape_for_terminal(options.shape)));
  model.architecture->write_gguf_metadata(config, writer);
  model::write_quantization_metadata(model::gguf_file_type(model.tensors), writer);
  text::export_tokenizer(tokenizer_folder(options, config), config.vocabulary, {}, writer);
  model::write_synthetic_model(model, options.seed, writer,
                               [&](uint64_t written) { progress.advance(written); });
  writer.finish();
  fmt::print("{}, {} layers, vocabulary {}\n", config.architecture, config.layers,
             config.vocabulary);
  print_plan(model.tensors, config.layers);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  fmt::print("Wrote {} in {:.1f} s.\n", escape_for_terminal(options.out.path.string()),
             seconds.count());
  return kOk;
}

std::string shape_list() {
  std::string text;
  for (const model::SyntheticShape& shape : model::synthetic_shapes())
    text.append(text.empty() ? "" : ", ").append(shape.name);
  return text;
}

}  // namespace

std::function<int()> synth(CommandOptions& command) {
  auto options = std::make_shared<Options>();
  command
      .text("--like", options->shape,
            fmt::format("Shape: {}; or a checkpoint (config.json suffices)", shape_list()))
      .required()
      .metavar("SHAPE");
  options->out.declare(command);
  command.integer("--layers", options->layers, 1, 4096, "Number of layers (default: the shape's)");
  command
      .text("--recipe", options->recipe,
            "Tensor types, as for `mxgpt quantize --recipe` (default: mxfp4-moe)")
      .metavar("RECIPE");
  command
      .path(
          "--tokenizer", options->tokenizer,
          "Directory with tokenizer.json (default: gpt-oss's tokenizer if the vocabulary is large "
          "enough, else the shipped model's)")
      .metavar("DIR");
  command
      .integer("--seed", options->seed, 0, std::numeric_limits<uint64_t>::max(),
               "Random seed; equal seeds give equal files")
      .default_text("0");
  command.footer(
      "The weights are random, scaled so that activations and logits have realistic magnitudes. "
      "Use\n"
      "the file to measure speed and memory. It has no end-of-sequence token, so generation "
      "always\n"
      "runs to the requested length.\n"
      "Example: mxgpt synth --like gpt-oss-20b synth-20b.gguf");
  return [options] { return run_interruptible([&] { return write_model(*options); }); };
}

}  // namespace mxgpt::cli
