#include "cli/gguf_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "base/error.h"
#include "base/escape.h"
#include "cli/command.h"
#include "io/model_hash.h"
#include "text/tokenizer/gguf_export.h"

namespace mxgpt::cli {

namespace {

namespace fs = std::filesystem;

struct Interrupted {
  int signal;
};

/// "token_embd.weight, blk.*.attn_v.weight (3 of 24 layers)".
std::string names_of(const std::vector<const model::PlannedTensor*>& tensors, int64_t layers) {
  std::vector<std::pair<const model::TensorSpec*, int64_t>> counts;  // in order of appearance
  for (const model::PlannedTensor* tensor : tensors) {
    auto found = std::find_if(counts.begin(), counts.end(),
                              [&](const auto& count) { return count.first == tensor->spec; });
    if (found == counts.end()) found = counts.insert(found, {tensor->spec, 0});
    ++found->second;
  }
  std::string text;
  for (const auto& [spec, count] : counts) {
    if (!text.empty()) text += ", ";
    if (!spec->per_layer()) {
      text += spec->gguf;
      continue;
    }
    text += fmt::format(fmt::runtime(spec->gguf), '*');
    if (count < layers) text += fmt::format(" ({} of {} layers)", count, layers);
  }
  return text;
}

}  // namespace

void GgufDestination::declare(CommandOptions& command) {
  command.path("destination", path, "GGUF file to write").required().metavar("DST.gguf");
  command.flag("--force", force, "Overwrite DST.gguf if it exists");
}

void GgufDestination::require_writable() const {
  if (fs::exists(path) && !force) {
    throw Error(path.string(), "already exists",
                "choose another name, or overwrite it with --force");
  }
}

void GgufDestination::require_space(uint64_t bytes) const {
  std::error_code unknown;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const fs::space_info space = fs::space(folder, unknown);
  if (!unknown && space.available < bytes) {
    throw Error(path.string(),
                fmt::format("needs {}, but only {} are free on its disk", format_bytes(bytes),
                            format_bytes(space.available)),
                "free some space, or write to another disk");
  }
}

int run_interruptible(const std::function<int()>& write) {
  try {
    return write();
  } catch (const Interrupted& interrupted) {
    fmt::print(stderr, "mxgpt: interrupted; nothing was written\n");
    return 128 + interrupted.signal;
  }
}

void WriteProgress::advance(uint64_t amount) {
  if (SignalGuard::interrupted()) throw Interrupted{SignalGuard::signal()};
  progress_.advance(amount);
}

uint64_t total_bytes(const std::vector<model::PlannedTensor>& plan) {
  uint64_t bytes = 0;
  for (const model::PlannedTensor& tensor : plan) {
    // A shape from a config.json may overflow.
    if (__builtin_add_overflow(bytes, tensor.bytes, &bytes)) return UINT64_MAX;
  }
  return bytes;
}

void print_plan(const std::vector<model::PlannedTensor>& plan, int64_t layers) {
  struct Total {
    size_t tensors = 0;
    uint64_t bytes = 0;
  };
  std::map<quant::Format, Total> totals;
  std::map<std::pair<quant::Format, quant::Format>, std::vector<const model::PlannedTensor*>>
      fallbacks;
  std::vector<const model::PlannedTensor*> requantized;
  for (const model::PlannedTensor& tensor : plan) {
    Total& total = totals[tensor.target_format];
    ++total.tensors;
    total.bytes += tensor.bytes;
    if (tensor.target_format != tensor.requested_format)
      fallbacks[{tensor.target_format, tensor.requested_format}].push_back(&tensor);
    if (tensor.target_format != tensor.source_format && model::is_quantized(tensor.target_format) &&
        model::is_quantized(tensor.source_format))
      requantized.push_back(&tensor);
  }
  fmt::print("  {:<8}{:>8}{:>12}\n", "type", "tensors", "size");
  const auto row = [](std::string_view type, size_t tensors, uint64_t bytes) {
    fmt::print("  {:<8}{:>8}{:>12}\n", type, tensors, format_bytes(bytes));
  };
  for (const auto& [format, total] : totals)
    row(quant::traits(format).name, total.tensors, total.bytes);
  row("total", plan.size(), total_bytes(plan));
  for (const auto& [formats, tensors] : fallbacks) {
    const quant::FormatTraits& wanted = quant::traits(formats.second);
    fmt::print("{} instead of {} (row length is not a multiple of {}): {}\n",
               quant::traits(formats.first).name, wanted.name, wanted.block_elements,
               names_of(tensors, layers));
  }
  if (!requantized.empty()) {
    fmt::print("Requantized; quantizing the original model would be more accurate: {}\n",
               names_of(requantized, layers));
  }
}

void ModelConversion::declare(CommandOptions& command) {
  command.path("source", source, "Checkpoint directory or GGUF file (any shard of a set)")
      .required()
      .metavar("SRC");
  out.declare(command);
}

void ModelConversion::check_paths() const {
  if (!fs::exists(source)) throw Error(source.string(), "file not found", "check the path");
  const std::string destination = out.path.string();
  // Compare canonical paths, to see through links and relative names.
  const fs::path folder = fs::weakly_canonical(fs::absolute(out.path)).parent_path();
  if (fs::is_directory(source)) {
    const fs::path from = fs::canonical(source);
    if (std::mismatch(from.begin(), from.end(), folder.begin(), folder.end()).first == from.end()) {
      throw Error(destination, "is inside the checkpoint directory and would change its hash",
                  "write to another directory");
    }
  } else if (fs::exists(out.path)) {
    for (const fs::path& shard : io::gguf_shard_paths(source)) {
      if (fs::exists(shard) && fs::equivalent(shard, out.path)) {
        throw Error(destination, "is the source file itself", "choose another name");
      }
    }
  }
  out.require_writable();
}

int ModelConversion::write(const std::function<Plan(const model::ModelFile&)>& make_plan) const {
  const auto start = std::chrono::steady_clock::now();
  check_paths();
  const model::ModelFile model(source);
  const Plan plan = make_plan(model);
  const uint64_t bytes = total_bytes(plan.tensors);
  out.require_space(bytes);
  const model::Config& config = model.config();
  fmt::print("{}: {}, {} layers, vocabulary {}\n", escape_for_terminal(source.string()),
             config.architecture, config.layers, config.vocabulary);
  std::fflush(stdout);
  const std::string sha256 = io::model_sha256(source);

  WriteProgress progress(bytes);
  io::GgufWriter writer(out.path);
  model::write_model_metadata(model, plan.file_type, sha256, writer);
  if (plan.add_metadata) plan.add_metadata(writer);
  if (!model.gguf()) {
    const text::TokenizerExport tokenizer =
        text::export_tokenizer(source, config.vocabulary, model.stop_tokens(), writer);
    for (const text::TokenId id : tokenizer.dropped_stop_tokens) {
      fmt::print(stderr, "mxgpt: GGUF cannot store token {}, an additional end-of-sequence token\n",
                 id);
    }
    if (tokenizer.nfc_dropped) {
      fmt::print(
          stderr,
          "mxgpt: GGUF cannot store the tokenizer's NFC normalization; text that is not in NFC "
          "gets different ids\n");
    }
  }
  const auto out_of_range =
      model::write_tensors(model, plan.tensors, plan.importance, writer,
                           [&](uint64_t written) { progress.advance(written); });
  writer.finish();
  for (const model::FormatOverflow& tensor : out_of_range) {
    fmt::print(stderr,
               "mxgpt: {}: {} values exceed the range of {} and became infinite; use bf16\n",
               tensor.name, tensor.elements, quant::traits(tensor.format).name);
  }
  print_plan(plan.tensors, config.layers);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  fmt::print("Wrote {} in {:.1f} s.\n", escape_for_terminal(out.path.string()), seconds.count());
  return kOk;
}

int ModelConversion::run(const std::function<Plan(const model::ModelFile&)>& make_plan) const {
  return run_interruptible([&] { return write(make_plan); });
}

}  // namespace mxgpt::cli
