// `mxgpt convert`: converts a checkpoint or a GGUF file to a GGUF file.
#include <map>
#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/gguf_export.h"

namespace mxgpt::cli {

std::function<int()> convert(CommandOptions& command) {
  struct Options {
    ModelConversion files;
    quant::Format dense = quant::Format::bf16;
  };
  auto options = std::make_shared<Options>();
  options->files.declare(command);
  command
      .choice("--dense-type|--dense", options->dense,
              Choices<quant::Format>{{"bf16", quant::Format::bf16},
                                     {"f16", quant::Format::f16},
                                     {"f32", quant::Format::f32},
                                     {"q8_0", quant::Format::q8_0}},
              "Type of the embedding, attention, output head and unquantized experts")
      .default_text("bf16");
  command.footer(
      "MXFP4 experts are copied bit for bit. Norms, biases and the router are stored as F32. bf16 "
      "is\n"
      "lossless for the released checkpoints; q8_0 matches ggml-org's files. The tokenizer is\n"
      "embedded. The source's name and SHA-256 (`mxgpt verify`) are stored as mxgpt.source.name "
      "and\n"
      "mxgpt.source.sha256.\n"
      "Example: mxgpt convert gpt-oss-20b gpt-oss-20b.gguf --dense-type q8_0");
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
