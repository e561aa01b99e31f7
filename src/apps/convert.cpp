// `mxgpt convert`: a checkpoint, or another GGUF file, to a GGUF file.
#include "model/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/command.h"
#include "apps/terminal.h"
#include "base/error.h"
#include "base/printable.h"
#include "base/progress.h"
#include "io/provenance.h"
#include "text/tokenizer/gguf_export.h"

namespace mxgpt::apps {

namespace {

namespace fs = std::filesystem;

struct Options {
  fs::path source, destination;
  Format dense = Format::bf16;
  bool force = false;
};

/// Ctrl-C: unwinding removes what was written so far.
struct Interrupted {};

void check_paths(const Options& options) {
  if (!fs::exists(options.source))
    throw Error(options.source.string(), "does not exist", "check the path");
  const std::string destination = options.destination.string();
  // Whatever the name is that it has: a link, another spelling, or a name that is new.
  const fs::path folder = fs::weakly_canonical(fs::absolute(options.destination)).parent_path();
  if (fs::is_directory(options.source)) {
    const fs::path source = fs::canonical(options.source);
    if (std::mismatch(source.begin(), source.end(), folder.begin(), folder.end()).first ==
        source.end()) {
      throw Error(destination, "lies inside the checkpoint, whose hash it would change",
                  "write it to another folder");
    }
  } else if (fs::exists(options.destination)) {
    for (const fs::path& shard : gguf_shard_paths(options.source)) {
      if (fs::exists(shard) && fs::equivalent(shard, options.destination)) {
        throw Error(destination, "is the source itself", "take another name");
      }
    }
  }
  if (fs::exists(options.destination) && !options.force) {
    throw Error(destination, "exists already", "take another name, or replace it with --force");
  }
}

void check_space(const Options& options, uint64_t bytes) {
  std::error_code unknown;
  const fs::path folder =
      options.destination.has_parent_path() ? options.destination.parent_path() : fs::path(".");
  const fs::space_info space = fs::space(folder, unknown);
  if (!unknown && space.available < bytes) {
    throw Error(options.destination.string(),
                fmt::format("needs {} but its disk has only {} left", size_text(bytes),
                            size_text(space.available)),
                "free some space or write it to another disk");
  }
}

uint64_t total_bytes(const std::vector<PlannedTensor>& plan) {
  uint64_t bytes = 0;
  for (const PlannedTensor& tensor : plan) bytes += tensor.bytes;
  return bytes;
}

/// "a, b and 12 more".
std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kShown = 4;
  std::string text;
  for (size_t i = 0; i < std::min(kShown, names.size()); ++i)
    text.append(i ? ", " : "").append(names[i]);
  if (names.size() > kShown) text += fmt::format(" and {} more", names.size() - kShown);
  return text;
}

void print_summary(const Options& options, const std::vector<PlannedTensor>& plan, double seconds) {
  struct Total {
    int tensors = 0;
    uint64_t bytes = 0;
    std::vector<std::string> fallbacks;
  };
  std::map<Format, Total> totals;
  for (const PlannedTensor& tensor : plan) {
    Total& total = totals[tensor.to];
    ++total.tensors;
    total.bytes += tensor.bytes;
    if (tensor.fallback) total.fallbacks.push_back(tensor.name);
  }
  fmt::print("  {:<8}{:>8}{:>12}\n", "type", "tensors", "size");
  const auto row = [](std::string_view type, size_t tensors, uint64_t bytes) {
    fmt::print("  {:<8}{:>8}{:>12}\n", type, tensors, size_text(bytes));
  };
  for (const auto& [format, total] : totals) row(traits(format).name, total.tensors, total.bytes);
  row("total", plan.size(), total_bytes(plan));
  for (const auto& [format, total] : totals) {
    if (total.fallbacks.empty()) continue;
    const FormatTraits& wanted = traits(options.dense);
    fmt::print("{}, not {}, whose rows are multiples of {}: {}\n", traits(format).name, wanted.name,
               wanted.block_elements, some_of(total.fallbacks));
  }
  fmt::print("Wrote {} in {:.1f} s.\n", printable(options.destination.string()), seconds);
}

std::vector<OutOfRange> write_with_progress(const Model& model,
                                            const std::vector<PlannedTensor>& plan,
                                            GgufWriter& out) {
  Progress progress("Writing", total_bytes(plan));
  auto lost = write_tensors(model, plan, out, [&](uint64_t bytes) {
    if (CtrlC::pressed()) throw Interrupted();
    progress.advance(bytes);
  });
  out.finish();
  return lost;
}

int convert(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  check_paths(options);
  const auto model = Model::open(options.source);
  const auto plan = plan_tensors(*model, dense_rule(options.dense));
  check_space(options, total_bytes(plan));
  const Config& config = model->config();
  fmt::print("{}: {}, {} layers, vocabulary {}\n", printable(options.source.string()),
             config.architecture, config.layers, config.vocabulary);
  std::fflush(stdout);
  const std::string sha256 = model_sha256(options.source);

  const CtrlC ctrl_c;
  GgufWriter out(options.destination);
  describe_model(*model, plan, sha256, out);
  if (!model->gguf()) {
    const TokenizerExport tokenizer =
        export_tokenizer(options.source, config.vocabulary, model->stop_tokens(), out);
    for (const TokenId id : tokenizer.left_out_stop_tokens) {
      fmt::print(stderr, "mxgpt: GGUF has no place for token {}, which also ends an answer\n", id);
    }
  }
  const auto lost = write_with_progress(*model, plan, out);
  for (const OutOfRange& tensor : lost) {
    fmt::print(
        stderr,
        "mxgpt: {}: {} numbers are too large for {} and became infinite; --dense bf16 keeps them\n",
        tensor.name, tensor.elements, traits(options.dense).name);
  }
  print_summary(options, plan,
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return kOk;
}

}  // namespace

std::function<int()> convert(CLI::App& command) {
  auto options = std::make_shared<Options>();
  command
      .add_option("source", options->source,
                  "A checkpoint directory, or a GGUF file (any shard of a set)")
      ->required()
      ->type_name("SRC");
  command.add_option("destination", options->destination, "The GGUF file to write")
      ->required()
      ->type_name("DST.gguf");
  static const std::map<std::string, Format> kDense{
      {"bf16", Format::bf16}, {"f16", Format::f16}, {"f32", Format::f32}, {"q8_0", Format::q8_0}};
  command
      .add_option("--dense", options->dense,
                  "Type of the embedding, of attention and of experts that are not quantized")
      ->transform(CLI::CheckedTransformer(kDense, CLI::ignore_case).description(""))
      ->type_name("bf16|f16|f32|q8_0")
      ->default_str("bf16");
  command.add_flag("--force", options->force, "Replace DST.gguf if it exists");
  command.footer(
      "Experts in MXFP4 are taken over bit for bit; norms, biases and the router are f32. bf16 "
      "loses nothing of\n"
      "a released checkpoint; q8_0 is what the files of ggml-org have. The tokenizer is embedded, "
      "and the name\n"
      "and SHA-256 of SRC (`mxgpt verify`) are kept as mxgpt.source.name and mxgpt.source.sha256.\n"
      "Example: mxgpt convert gpt-oss-20b gpt-oss-20b.gguf --dense q8_0");
  return [options]() -> int {
    try {
      return convert(*options);
    } catch (const Interrupted&) {
      fmt::print(stderr, "mxgpt: interrupted, nothing was written\n");
      return 128 + SIGINT;
    }
  };
}

}  // namespace mxgpt::apps
