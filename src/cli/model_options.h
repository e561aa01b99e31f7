// The options that every command which runs a model shares.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/accum_type.h"
#include "runtime/model.h"

namespace mxgpt::cli {

/// `--model`, `--expect-sha256`, `--threads`, and how weights come into memory.
struct ModelOption {
  std::filesystem::path path;  ///< empty: the shipped gpt-oss-nano
  std::string expected_sha256;
  int threads = 0;  ///< 0: as many as thread_count() finds

  model::LoadOptions load;

  /// Without `--threads` for commands that have an option of their own, or compute nothing.
  void declare(CLI::App& command, bool with_threads = true);
  /// Sets the number of threads. Throws Error if the hash does not match, before anything else is
  /// read.
  std::unique_ptr<runtime::Model> open() const;
  /// Where the model is: `path`, or the shipped one.
  std::filesystem::path location() const;
};

/// `--device`, `--vram-budget`, `--resident` and `--profile`.
struct DeviceOption {
  backend::Device device = backend::Device::cpu;
  int64_t vram_budget = 0;
  bool no_offload = false;
  std::filesystem::path profile;  ///< empty: none

  void declare(CLI::App& command);
};

/// Records from here on, if that was asked for, what a GPU's time and memory go to; writes it when
/// it goes out of scope.
class ProfileFile {
 public:
  explicit ProfileFile(const DeviceOption& option);
  ~ProfileFile();

 private:
  std::filesystem::path path_;
};

/// `--precision exact|default`, or under another name and with another default.
void declare_precision(CLI::App& command, backend::Precision& precision,
                       const char* name = "--precision", const char* default_name = "default");

/// `--kv f16|bf16|q8_0|f32`.
void declare_kv(CLI::App& command, std::optional<quant::Format>& kv);
/// The same, for several: `--kv f16,q8_0`.
void declare_kv(CLI::App& command, std::vector<quant::Format>& kv);

/// `--accumulate f16|f32`.
void declare_accumulate(CLI::App& command, kernels::AccumType& accumulate);

}  // namespace mxgpt::cli
