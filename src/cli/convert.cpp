// `mxgpt convert`: a checkpoint, or another GGUF file, to a GGUF file.
#include <map>
#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/gguf_export.h"

namespace mxgpt::cli {

std::function<int()> convert(CLI::App& command) {
  struct Options {
    ModelConversion files;
    quant::Format dense = quant::Format::bf16;
  };
  auto options = std::make_shared<Options>();
  options->files.declare(command);
  static const std::map<std::string, quant::Format> kDense{{"bf16", quant::Format::bf16},
                                                           {"f16", quant::Format::f16},
                                                           {"f32", quant::Format::f32},
                                                           {"q8_0", quant::Format::q8_0}};
  command
      .add_option("--dense", options->dense,
                  "Type of the embedding, of attention and of experts that are not quantized")
      ->transform(CLI::CheckedTransformer(kDense, CLI::ignore_case).description(""))
      ->type_name("bf16|f16|f32|q8_0")
      ->default_str("bf16");
  command.footer(
      "Experts in MXFP4 are taken over bit for bit; norms, biases and the router are f32. bf16 "
      "loses nothing of\n"
      "a released checkpoint; q8_0 is what the files of ggml-org have. The tokenizer is embedded, "
      "and the name\n"
      "and SHA-256 of SRC (`mxgpt verify`) are kept as mxgpt.source.name and mxgpt.source.sha256.\n"
      "Example: mxgpt convert gpt-oss-20b gpt-oss-20b.gguf --dense q8_0");
  return [options] {
    return options->files.run([&](const model::ModelFile& model) {
      ModelConversion::Plan plan{
          .tensors = model::plan_tensors(model, model::dense_format_rule(options->dense))};
      plan.file_type = model::gguf_file_type(plan.tensors);
      return plan;
    });
  };
}

}  // namespace mxgpt::cli
