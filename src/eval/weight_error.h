// How far one model's weights are from another's, tensor by tensor.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/model.h"

namespace mxgpt::eval {

struct WeightError {
  std::string name;  ///< in GGUF files
  model::Role role;
  quant::Format reference, candidate;  ///< as they are in memory: vectors in f32
  int64_t elements;
  double relative_rms;  ///< sqrt(Σ (w' - w)² / Σ w²) of the dequantized weights
};

/// Of all tensors that both models have. They are of one architecture and of the same shapes.
/// `progress` hears of elements done.
std::vector<WeightError> weight_errors(const runtime::Model& reference,
                                       const runtime::Model& candidate,
                                       const std::function<void(int64_t)>& progress);

/// Whether tensors, layers and hidden states of the two can be compared at all.
bool same_shape(const model::ModelFile& a, const model::ModelFile& b);

/// Elements of all tensors.
int64_t count_parameters(const model::ModelFile& model);

}  // namespace mxgpt::eval
