#include "cli/model_options.h"

#include <fmt/format.h>

#include <fstream>
#include <map>

#include "backend/cuda/device.h"
#include "backend/cuda/profile.h"
#include "base/cpu_count.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "base/version.h"
#include "io/model_hash.h"

namespace mxgpt::cli {

void ModelOption::declare(CLI::App& command, bool with_threads) {
  command
      .add_option("-m,--model", path,
                  "GGUF file or checkpoint directory (default: the shipped gpt-oss-nano)")
      ->type_name("PATH");
  command
      .add_option("--expect-sha256", expected_sha256,
                  "Refuse the model unless `mxgpt verify` gives this hash")
      ->type_name("HASH");
  command.add_flag_callback(
      "--no-mmap", [this] { load.use_mmap = false; },
      "Copy the weights into memory, in large pages, instead of using them in the file");
  command.add_flag("--lock", load.use_mlock,
                   "Keep the weights in memory: never dropped or swapped out");
  if (!with_threads) return;
  command
      .add_option(
          "--threads", threads,
          "Threads to compute with (default: one a physical core that this process may use)")
      ->check(CLI::Range(1, kMaxThreads).description(""))
      ->type_name("N");
}

std::filesystem::path ModelOption::location() const {
  if (!path.empty()) return path;
  const std::filesystem::path shipped =
      std::filesystem::path(source_dir()) / "models" / "gpt-oss-nano";
  if (!std::filesystem::exists(shipped)) {
    throw Error(shipped.string(), "the shipped model is not there", "name a model with --model");
  }
  return shipped;
}

std::unique_ptr<runtime::Model> ModelOption::open() const {
  if (threads) set_thread_count(threads);
  const std::filesystem::path model = location();
  if (!std::filesystem::exists(model))
    throw Error(model.string(), "there is no such model", "check the path");
  if (!expected_sha256.empty()) io::require_sha256(model, expected_sha256);
  return runtime::Model::open(model, load);
}

void DeviceOption::declare(CLI::App& command) {
  static const std::map<std::string, backend::Device> kNames{{"cpu", backend::Device::cpu},
                                                             {"cuda", backend::Device::cuda}};
  command.add_option("--device", device, "Where the model runs")
      ->transform(CLI::CheckedTransformer(kNames, CLI::ignore_case).description(""))
      ->type_name("cpu|cuda")
      ->default_str("cpu");
  command
      .add_option("--vram-budget", vram_budget,
                  "Most memory that mxgpt may take of a GPU's, as 24GiB (default: what is free)")
      ->transform(CLI::AsSizeValue(false).description(""))
      ->type_name("SIZE");
  static const std::map<std::string, bool> kResident{{"strict", true}, {"auto", false}};
  command
      .add_option("--resident", no_offload,
                  "strict: where a GPU's memory does not suffice, end with an error and leave "
                  "nothing of the model in host memory")
      ->transform(CLI::CheckedTransformer(kResident, CLI::ignore_case).description(""))
      ->type_name("strict|auto")
      ->default_str("auto");
  command
      .add_option("--profile", profile,
                  "Write what the time and the memory of a GPU went to, as CSV; slower")
      ->type_name("FILE");
}

ProfileFile::ProfileFile(const DeviceOption& option) : path_(option.profile) {
  if (path_.empty()) return;
  if (option.device != backend::Device::cuda)
    throw Error("--profile", "times the kernels of a GPU", "take --device cuda");
  cuda::device_info();  // throws where there is none
  cuda::start_profile();
}

ProfileFile::~ProfileFile() {
  if (path_.empty()) return;
  std::ofstream file(path_);
  file << cuda::profile_report();
  if (!file.flush())
    fmt::print(stderr, "mxgpt: {}: the profile could not be written\n", path_.string());
}

void declare_precision(CLI::App& command, backend::Precision& precision, const char* name,
                       const char* default_name) {
  static const std::map<std::string, backend::Precision> kNames{
      {"default", backend::Precision::mixed}, {"exact", backend::Precision::exact}};
  command.add_option(name, precision, "exact keeps activations and the KV cache in f32")
      ->transform(CLI::CheckedTransformer(kNames, CLI::ignore_case).description(""))
      ->type_name("exact|default")
      ->default_str(default_name);
}

namespace {
const std::map<std::string, quant::Format> kKvNames{{"f16", quant::Format::f16},
                                                    {"bf16", quant::Format::bf16},
                                                    {"q8_0", quant::Format::q8_0},
                                                    {"f32", quant::Format::f32}};
}  // namespace

void declare_kv(CLI::App& command, std::vector<quant::Format>& kv) {
  command.add_option("--kv", kv, "What the KV cache holds (default: f16, in exact precision f32)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->transform(CLI::CheckedTransformer(kKvNames, CLI::ignore_case).description(""))
      ->type_name("f16|bf16|q8_0|f32,…");
}

void declare_kv(CLI::App& command, std::optional<quant::Format>& kv) {
  command
      .add_option_function<quant::Format>(
          "--kv", [&kv](quant::Format format) { kv = format; },
          "What the KV cache holds (default: f16, in exact precision f32)")
      ->transform(CLI::CheckedTransformer(kKvNames, CLI::ignore_case).description(""))
      ->type_name("f16|bf16|q8_0|f32");
}

void declare_accumulate(CLI::App& command, kernels::AccumType& accumulate) {
  static const std::map<std::string, kernels::AccumType> kNames{{"f16", kernels::AccumType::f16},
                                                                {"f32", kernels::AccumType::f32}};
  command
      .add_option(
          "--accumulate", accumulate,
          "What linear layers sum in; f16 shows what tensor cores with such accumulators do")
      ->transform(CLI::CheckedTransformer(kNames, CLI::ignore_case).description(""))
      ->type_name("f16|f32")
      ->default_str("f32");
}

}  // namespace mxgpt::cli
