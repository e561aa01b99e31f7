// Options shared by the commands that run a model.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.h"
#include "kernels/accum_type.h"
#include "runtime/model.h"

namespace mxgpt::cli {

/// `--model`, `--expect-sha256`, `--threads`, and how weights are loaded.
struct ModelOption {
  std::filesystem::path path;  ///< empty: the shipped gpt-oss-nano
  std::string expected_sha256;
  int threads = 0;  ///< 0: default of thread_count()

  model::LoadOptions load;

  /// `with_threads` is false for commands that have their own `--threads` or compute nothing.
  void declare(CommandOptions& command, bool with_threads = true);
  /// Sets the number of threads and opens the model. Throws Error if the hash does not match,
  /// before reading anything else.
  std::unique_ptr<runtime::Model> open() const;
  /// Path of the model: `path`, or the shipped model.
  std::filesystem::path location() const;
};

/// `--device`, `--vram-budget`, `--no-offload` and `--profile`.
struct DeviceOption {
  std::string device = "cpu";
  int64_t vram_budget = 0;
  bool no_offload = false;
  std::filesystem::path profile;  ///< empty: none

  void declare(CommandOptions& command);
};

/// If profiling was requested, records device time and memory, and writes them at the end of the
/// scope.
class ProfileFile {
 public:
  explicit ProfileFile(const DeviceOption& option);
  ~ProfileFile();

 private:
  std::filesystem::path path_;
};

/// `--device` alone.
void declare_device(CommandOptions& command, std::string& device);

/// `--precision exact|default`, or another name and default.
void declare_precision(CommandOptions& command, backend::Precision& precision,
                       const char* name = "--precision", const char* default_name = "default");

/// `--kv f16|bf16|q8_0|f32`.
void declare_kv(CommandOptions& command, std::optional<quant::Format>& kv);
/// As above, with several values: `--kv f16,q8_0`.
void declare_kv(CommandOptions& command, std::vector<quant::Format>& kv);

/// `--accumulate f16|f32`.
void declare_accumulate(CommandOptions& command, kernels::AccumType& accumulate);

/// `--tokenizer PATH`, required.
void declare_tokenizer(CommandOptions& command, std::string& tokenizer);

}  // namespace mxgpt::cli
