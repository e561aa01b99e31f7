// Errors of one model's weights against another's, per tensor.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/model.h"

namespace mxgpt::eval {

struct WeightError {
  std::string name;  ///< GGUF name
  model::Role role;
  quant::Format reference, candidate;  ///< in memory; vectors are f32
  int64_t elements;
  double relative_rms;  ///< sqrt(Σ (w' - w)² / Σ w²) of the dequantized weights
};

/// Errors of all tensors that both models have; the models have the same architecture and shapes.
/// Calls `progress` with the number of elements compared.
std::vector<WeightError> weight_errors(const runtime::Model& reference,
                                       const runtime::Model& candidate,
                                       const std::function<void(int64_t)>& progress);

/// True if tensors, layers and hidden states of the two models can be compared.
bool same_shape(const model::ModelFile& a, const model::ModelFile& b);

/// Number of elements of all tensors.
int64_t count_parameters(const model::ModelFile& model);

}  // namespace mxgpt::eval
