// What the commands that write a GGUF file share.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "cli/terminal.h"
#include "model/convert.h"

namespace mxgpt::cli {

/// Where the file goes.
struct GgufDestination {
  std::filesystem::path path;
  bool force = false;

  void declare(CLI::App& command);  ///< `DST.gguf` and `--force`
  /// Throws Error if the file exists and is not to be replaced.
  void require_writable() const;
  /// Throws Error if the disk has no room for so many bytes.
  void require_space(uint64_t bytes) const;
};

/// Runs what writes the file. Ctrl-C, or a request to end, unwinds it, which removes what was
/// written so far; then this says so, and returns the exit code for it.
int run_interruptible(const std::function<int()>& write);

/// Shows how far a write has come, and unwinds it when it is interrupted.
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

/// A table of types, and then the tensors that could not have the type they were to have.
void print_plan(const std::vector<model::PlannedTensor>& plan, int64_t layers);

/// A GGUF file made of another model file: `convert` and `quantize`.
struct ModelConversion {
  std::filesystem::path source;
  GgufDestination out;

  struct Plan {
    std::vector<model::PlannedTensor> tensors;
    uint32_t file_type;
    model::ImportanceLookup importance = {};
    /// Adds metadata to the file; may be empty.
    std::function<void(io::GgufWriter&)> add_metadata = {};
  };

  void declare(CLI::App& command);  ///< SRC, and what GgufOutput has
  /// Returns the exit code.
  int run(const std::function<Plan(const model::ModelFile&)>& make_plan) const;

 private:
  int write(const std::function<Plan(const model::ModelFile&)>& make_plan) const;
  void check_paths() const;
};

}  // namespace mxgpt::cli
