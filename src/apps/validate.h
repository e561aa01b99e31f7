// The modes of `mxgpt validate`, one function each; validate.cpp declares the options and chooses.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "apps/model_option.h"
#include "apps/text_option.h"
#include "backend/ops.h"
#include "numerics/gates.h"

namespace mxgpt::apps {

struct ValidateOptions {
  std::filesystem::path reference, candidate, source;
  Precision reference_precision = Precision::exact;  ///< also the source's
  Precision precision = Precision::standard;         ///< the candidate's
  Accumulate accumulate = Accumulate::f32;           ///< the candidate's
  std::optional<Format> kv;                          ///< the candidate's
  DeviceOption device;                               ///< the candidate's
  TextOption text;
  int64_t chunk = 512, max_tokens = 0;
  Gates gates;
  std::filesystem::path json, html;

  bool kernels = false;
  std::filesystem::path model;      ///< for self-checks
  std::filesystem::path behaviour;  ///< prompts
  int64_t seeds = 3, answer_tokens = 96, max_prompts = 0, max_flagged = 0;
};

/// Candidate against reference, token by token, layer by layer, tensor by tensor.
int validate_models(const ValidateOptions& options);

/// Every kernel of this machine against its double-precision reference.
int validate_kernels(const ValidateOptions& options);

/// What must hold of one model without any reference.
int validate_self(const ValidateOptions& options);

/// Whether a candidate answers prompts as its reference does.
int validate_behaviour(const ValidateOptions& options);

}  // namespace mxgpt::apps
