// `mxgpt synth`: a model of a real shape with random weights, for work on speed and memory.
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

/// gpt-oss's own where the vocabulary has room for it, otherwise that of the shipped model.
fs::path tokenizer_folder(const Options& options, const model::Config& config) {
  if (!options.tokenizer.empty()) return options.tokenizer;
  constexpr int64_t kGptOssTokens = 201088;
  const fs::path folder = config.vocabulary >= kGptOssTokens
                              ? fs::path(MXGPT_GPT_OSS_TOKENIZER)
                              : fs::path(source_dir()) / "models" / "gpt-oss-nano";
  if (!fs::exists(folder)) {
    throw Error(folder.string(), "the tokenizer that comes with the sources is not there",
                "name the folder of one with --tokenizer");
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

std::function<int()> synth(CLI::App& command) {
  auto options = std::make_shared<Options>();
  command
      .add_option("--like", options->shape,
                  fmt::format("The shape: {}; or a checkpoint, of which config.json is enough",
                              shape_list()))
      ->required()
      ->type_name("SHAPE");
  options->out.declare(command);
  command.add_option("--layers", options->layers, "Fewer layers, or more")
      ->check(CLI::Range(1, 4096))
      ->type_name("N");
  command
      .add_option("--recipe", options->recipe,
                  "Types of the tensors, as of `mxgpt quantize --to` (default: mxfp4-moe)")
      ->type_name("RECIPE");
  command
      .add_option("--tokenizer", options->tokenizer,
                  "Folder with tokenizer.json (default: that of gpt-oss if the vocabulary has room "
                  "for it, otherwise that of the shipped model)")
      ->type_name("DIR");
  command.add_option("--seed", options->seed, "The same seed gives the same file")->type_name("N");
  command.footer(
      "Weights are random, of such size that activations and logits stay sane: for measuring speed "
      "and memory, not\n"
      "for answers. No token ends one, so that runs have the length they are asked for.\n"
      "Example: mxgpt synth --like gpt-oss-20b synth-20b.gguf");
  return [options] { return run_interruptible([&] { return write_model(*options); }); };
}

}  // namespace mxgpt::cli
