// The options that every command which runs a model shares.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "model/model.h"

namespace mxgpt::apps {

/// `--model`, `--expect-sha256` and `--threads`.
struct ModelOption {
  std::filesystem::path path;  ///< empty: the shipped gpt-oss-nano
  std::string expected_sha256;
  int threads = 0;  ///< 0: as many as thread_count() finds

  void declare(CLI::App& command);
  /// Sets the number of threads. Throws Error if the hash does not match, before anything else is
  /// read.
  std::unique_ptr<Model> open() const;
  /// Where the model is: `path`, or the shipped one.
  std::filesystem::path location() const;
};

/// `--precision exact|default`, or under another name and with another default.
void declare_precision(CLI::App& command, Precision& precision, const char* name = "--precision",
                       const char* default_name = "default");

/// `--kv f16|bf16|q8_0|f32`.
void declare_kv(CLI::App& command, std::optional<Format>& kv);

/// `--accumulate f16|f32`.
void declare_accumulate(CLI::App& command, Accumulate& accumulate);

}  // namespace mxgpt::apps
