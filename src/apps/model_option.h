// The options that every command which runs a model shares.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <string>

#include "model/model.h"

namespace mxgpt::apps {

/// `--model` and `--expect-sha256`.
struct ModelOption {
  std::filesystem::path path;  ///< empty: the shipped gpt-oss-nano
  std::string expected_sha256;

  void declare(CLI::App& command);
  /// Throws Error if the hash does not match, before anything else is read.
  std::unique_ptr<Model> open() const;
  /// Where the model is: `path`, or the shipped one.
  std::filesystem::path location() const;
};

/// `--precision exact|default`, or under another name and with another default.
void declare_precision(CLI::App& command, Precision& precision, const char* name = "--precision",
                       const char* default_name = "default");

/// `--accumulate f16|f32`.
void declare_accumulate(CLI::App& command, Accumulate& accumulate);

}  // namespace mxgpt::apps
