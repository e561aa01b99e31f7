// Helpers of the commands that write GGUF files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "cli/options.h"
#include "cli/terminal.h"
#include "model/convert.h"

namespace mxgpt::cli {

/// Destination file.
struct GgufDestination {
  std::filesystem::path path;
  bool force = false;

  void declare(CommandOptions& command);  ///< `DST.gguf` and `--force`
  /// Throws Error if the file exists and --force was not given.
  void require_writable() const;
  /// Throws Error if the disk has less than `bytes` free.
  void require_space(uint64_t bytes) const;
};

/// Runs `write`. SIGINT or SIGTERM unwinds it, which removes the partial file; then prints a
/// message and returns the exit code.
int run_interruptible(const std::function<int()>& write);

/// Progress bar of a write; advance() throws if the write is interrupted.
class WriteProgress {
 public:
  explicit WriteProgress(uint64_t total, std::string label = "Writing", std::string unit = {})
      : progress_(std::move(label), total, std::move(unit)) {}
  void advance(uint64_t amount);

 private:
  const SignalGuard signals_{SIGINT, SIGTERM, SIGHUP};
  Progress progress_;
};

uint64_t total_bytes(const std::vector<model::PlannedTensor>& plan);

/// Prints the tensor types, and the tensors whose requested type did not fit their shape.
void print_plan(const std::vector<model::PlannedTensor>& plan, int64_t layers);

/// A GGUF file made from another model file, for `convert` and `quantize`.
struct ModelConversion {
  std::filesystem::path source;
  GgufDestination out;

  struct Plan {
    std::vector<model::PlannedTensor> tensors;
    uint32_t file_type;
    model::ImportanceLookup importance = {};
    /// Adds metadata; may be null.
    std::function<void(io::GgufWriter&)> add_metadata = {};
  };

  void declare(CommandOptions& command);  ///< SRC and GgufDestination's options
  /// Returns the exit code.
  int run(const std::function<Plan(const model::ModelFile&)>& make_plan) const;

 private:
  int write(const std::function<Plan(const model::ModelFile&)>& make_plan) const;
  void check_paths() const;
};

}  // namespace mxgpt::cli
