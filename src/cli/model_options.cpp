#include "cli/model_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <fstream>
#include <map>

#include "backend/cuda/device.h"
#include "backend/cuda/profile.h"
#include "base/cpu_count.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "base/version.h"
#include "io/model_hash.h"
#include "runtime/device.h"

namespace mxgpt::cli {

void ModelOption::declare(CommandOptions& command, bool with_threads) {
  command
      .path("-m,--model", path,
            "GGUF file or checkpoint directory (default: the shipped gpt-oss-nano)")
      .metavar("PATH");
  command
      .text("--expect-sha256", expected_sha256,
            "Refuse to load the model unless its hash is this (see `mxgpt verify`)")
      .metavar("HASH");
  command.flag("--no-mmap", load.use_mmap, false,
               "Copy the weights into memory (huge pages) instead of mapping the file");
  command.flag("--mlock|--lock", load.use_mlock, true,
               "Lock the weights in memory, so that they are never paged out");
  if (!with_threads) return;
  command.integer("--threads", threads, 1, kMaxThreads,
                  "Compute threads (default: one per available physical core)");
}

std::filesystem::path ModelOption::location() const {
  if (!path.empty()) return path;
  const std::filesystem::path shipped =
      std::filesystem::path(source_dir()) / "models" / "gpt-oss-nano";
  if (!std::filesystem::exists(shipped)) {
    throw Error(shipped.string(), "the shipped model is missing", "choose a model with --model");
  }
  return shipped;
}

std::unique_ptr<runtime::Model> ModelOption::open() const {
  if (threads) set_thread_count(threads);
  const std::filesystem::path model = location();
  if (!std::filesystem::exists(model))
    throw Error(model.string(), "model not found", "check the path");
  if (!expected_sha256.empty()) io::require_sha256(model, expected_sha256);
  return runtime::Model::open(model, load);
}

void declare_device(CommandOptions& command, std::string& device) {
  const std::vector<std::string_view> names = runtime::device_names();
  command.name("--device", device, {names.begin(), names.end()}, "Device to run the model on")
      .metavar(fmt::format("{}", fmt::join(names, "|")))
      .default_text("cpu");
}

void DeviceOption::declare(CommandOptions& command) {
  declare_device(command, device);
  command.bytes("--vram-budget", vram_budget,
                "GPU memory that mxgpt may use, such as 24GiB (default: all free memory)");
  command.flag("--no-offload", no_offload,
               "Fail if the model does not fit into GPU memory, instead of keeping experts in host "
               "memory");
  command.choice("--resident", no_offload, Choices<bool>{{"strict", true}, {"auto", false}}, "")
      .hidden();
  command.path("--profile", profile,
               "Write GPU time and memory per kernel as CSV; slows down inference");
}

ProfileFile::ProfileFile(const DeviceOption& option) : path_(option.profile) {
  if (path_.empty()) return;
  if (option.device != "cuda")
    throw Error("--profile", "is only supported on a GPU", "use --device cuda");
  cuda::device_info();  // throws where there is none
  cuda::start_profile();
}

ProfileFile::~ProfileFile() {
  if (path_.empty()) return;
  std::ofstream file(path_);
  file << cuda::profile_report();
  if (!file.flush()) fmt::print(stderr, "mxgpt: {}: cannot write the profile\n", path_.string());
}

void declare_precision(CommandOptions& command, backend::Precision& precision, const char* name,
                       const char* default_name) {
  command
      .choice(name, precision,
              Choices<backend::Precision>{{"default", backend::Precision::mixed},
                                          {"exact", backend::Precision::exact}},
              "exact: keep activations and the KV cache in f32")
      .default_text(default_name);
}

namespace {
const Choices<quant::Format> kKvFormats{{"f16", quant::Format::f16},
                                        {"bf16", quant::Format::bf16},
                                        {"q8_0", quant::Format::q8_0},
                                        {"f32", quant::Format::f32}};
constexpr const char* kKvHelp = "KV cache type (default: f16, with exact precision f32)";
}  // namespace

void declare_kv(CommandOptions& command, std::vector<quant::Format>& kv) {
  command.choices("--kv", kv, kKvFormats, kKvHelp);
}

void declare_kv(CommandOptions& command, std::optional<quant::Format>& kv) {
  command.choice("--kv", kv, kKvFormats, kKvHelp);
}

void declare_accumulate(CommandOptions& command, kernels::AccumType& accumulate) {
  command
      .choice(
          "--accumulate", accumulate,
          Choices<kernels::AccumType>{{"f16", kernels::AccumType::f16},
                                      {"f32", kernels::AccumType::f32}},
          "Accumulator type of matrix products; f16 emulates tensor cores with f16 accumulators")
      .default_text("f32");
}

void declare_tokenizer(CommandOptions& command, std::string& tokenizer) {
  command.text("--tokenizer", tokenizer, "tokenizer.json, checkpoint directory or GGUF file")
      .required()
      .metavar("PATH");
}

}  // namespace mxgpt::cli
