// What the commands that write a GGUF file share.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "apps/terminal.h"
#include "base/progress.h"
#include "model/convert.h"

namespace mxgpt::apps {

/// Where the file goes.
struct GgufOutput {
  std::filesystem::path path;
  bool force = false;

  void declare(CLI::App& command);  ///< `DST.gguf` and `--force`
  /// Throws Error if the file exists and is not to be replaced.
  void check() const;
  /// Throws Error if the disk has no room for so many bytes.
  void check_space(uint64_t bytes) const;
};

/// Runs what writes the file. Ctrl-C, or a request to end, unwinds it, which removes what was
/// written so far; then this says so, and returns the exit code for it.
int interruptible(const std::function<int()>& write);

/// Shows how far a write has come, and unwinds it when it is interrupted.
class WriteProgress {
 public:
  explicit WriteProgress(uint64_t total, std::string label = "Writing", std::string unit = {})
      : progress_(std::move(label), total, std::move(unit)) {}
  void advance(uint64_t amount);

 private:
  const CtrlC signals_{SIGINT, SIGTERM, SIGHUP};
  Progress progress_;
};

uint64_t total_bytes(const std::vector<PlannedTensor>& plan);

/// A table of types, and then the tensors that could not have the type they were to have.
void print_plan(const std::vector<PlannedTensor>& plan, int64_t layers);

/// A GGUF file made of another model file: `convert` and `quantize`.
struct ModelRewrite {
  std::filesystem::path source;
  GgufOutput out;

  struct Plan {
    std::vector<PlannedTensor> tensors;
    uint32_t file_type;
    ImportanceOf importance = {};
    /// Adds metadata to the file; may be empty.
    std::function<void(GgufWriter&)> describe = {};
  };

  void declare(CLI::App& command);  ///< SRC, and what GgufOutput has
  /// Returns the exit code.
  int run(const std::function<Plan(const Model&)>& make_plan) const;

 private:
  int write(const std::function<Plan(const Model&)>& make_plan) const;
  void check_paths() const;
};

}  // namespace mxgpt::apps
