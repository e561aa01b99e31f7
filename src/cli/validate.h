// The modes of `mxgpt validate`, one function each; validate.cpp declares the options and chooses.
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
  backend::Precision reference_precision = backend::Precision::exact;  ///< also the source's
  backend::Precision precision = backend::Precision::mixed;            ///< the candidate's
  kernels::AccumType accumulate = kernels::AccumType::f32;             ///< the candidate's
  std::optional<quant::Format> kv;                                     ///< the candidate's
  DeviceOption device;                                                 ///< the candidate's
  TextSource text;
  int64_t chunk = 512, max_tokens = 0;
  eval::AcceptanceCriteria criteria;
  std::filesystem::path json, html;

  bool kernels = false;
  std::filesystem::path model;    ///< for self-checks
  std::filesystem::path prompts;  ///< prompts
  int64_t seeds = 3, max_completion_tokens = 96, max_prompts = 0, max_flagged = 0;
};

/// Candidate against reference, token by token, layer by layer, tensor by tensor.
int validate_models(const ValidateOptions& options);

/// Every kernel of this machine against its double-precision reference.
int validate_kernels(const ValidateOptions& options);

/// What must hold of one model without any reference.
int validate_self(const ValidateOptions& options);

/// Whether a candidate answers prompts as its reference does.
int validate_divergence(const ValidateOptions& options);

}  // namespace mxgpt::cli
