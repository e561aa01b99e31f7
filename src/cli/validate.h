// The modes of `mxgpt validate`. validate.cpp declares the options and selects one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "backend/ops.h"
#include "cli/model_options.h"
#include "cli/text_source.h"
#include "eval/acceptance.h"
#include "kernels/accum_type.h"

namespace mxgpt::cli {

struct ValidateOptions {
  std::filesystem::path reference, candidate, source;
  backend::Precision reference_precision = backend::Precision::exact;  ///< of reference and source
  backend::Precision precision = backend::Precision::mixed;            ///< of the candidate
  kernels::AccumType accumulate = kernels::AccumType::f32;             ///< of the candidate
  std::optional<quant::Format> kv;                                     ///< of the candidate
  DeviceOption device;                                                 ///< of the candidate
  TextSource text;
  int64_t chunk = 512, max_tokens = 0;
  eval::AcceptanceCriteria criteria;
  std::filesystem::path json, html;

  bool kernels = false;
  std::filesystem::path model;    ///< for self-checks
  std::filesystem::path prompts;  ///< JSONL file for the divergence test
  int64_t seeds = 3, max_completion_tokens = 96, max_prompts = 0, max_flagged = 0;
};

/// Compares candidate and reference by token, layer and tensor.
int validate_models(const ValidateOptions& options);

/// Checks every kernel on this machine against its double-precision reference.
int validate_kernels(const ValidateOptions& options);

/// Checks one model against itself.
int validate_self(const ValidateOptions& options);

/// Compares completions of candidate and reference.
int validate_divergence(const ValidateOptions& options);

}  // namespace mxgpt::cli
