// Hook for reading activations during a step. Used by validation and calibration only.
#pragma once

#include <cstdint>

#include "backend/batch.h"
#include "backend/ops.h"
#include "backend/tensor.h"

namespace mxgpt::backend {

/// Called on the thread that runs the step. Arguments are host memory, valid until the call
/// returns. The default implementations do nothing.
class ActivationHook {
 public:
  virtual ~ActivationHook() = default;

  /// Inputs of a linear layer: token t reads x + (row_indices ? row_indices[t] : t) * weight.k.
  /// `weight.data` identifies the tensor of the model's Weights, `expert` the expert.
  virtual void linear_input(const Tensor& /*weight*/, int64_t /*expert*/, const float* /*x*/,
                            const int32_t* /*row_indices*/, int64_t /*tokens*/) {}

  /// A computed attention: its inputs, the KV cache and its output.
  virtual void attention(const Attention& /*op*/, const Batch& /*batch*/) {}

  /// The residual stream [rows, hidden]: after the embedding, and after each attention, MLP and MoE
  /// block.
  virtual void residual(const float* /*x*/, int64_t /*rows*/, int64_t /*hidden*/) {}

  /// The experts selected by a layer, [rows, top_k], best first.
  virtual void expert_choices(const int32_t* /*experts*/, int64_t /*rows*/, int64_t /*top_k*/) {}
};

}  // namespace mxgpt::backend
