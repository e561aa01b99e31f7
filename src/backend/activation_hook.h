// Looks into a step: what validation and calibration need and running does not.
#pragma once

#include <cstdint>

#include "backend/batch.h"
#include "backend/ops.h"
#include "backend/tensor.h"

namespace mxgpt::backend {

/// Called between the ops of a step, on the thread that runs it; what it is shown lives until the
/// call returns, in host memory. All members do nothing unless overridden.
class ActivationHook {
 public:
  virtual ~ActivationHook() = default;

  /// Rows that a linear layer is about to read: token t's is x + (x_rows ? x_rows[t] : t) *
  /// weight.k. `weight.data` tells which tensor of the model's Weights it is, `slice` which expert.
  virtual void linear_input(const Tensor& /*weight*/, int64_t /*slice*/, const float* /*x*/,
                            const int32_t* /*x_rows*/, int64_t /*tokens*/) {}

  /// An attention that was computed: its output, and all that led to it, the cache included.
  virtual void attention(const Attention& /*op*/, const Batch& /*batch*/) {}

  /// The residual stream [rows, hidden]: after the embedding, then after each layer's attention and
  /// after each layer's MLP.
  virtual void residual(const float* /*x*/, int64_t /*rows*/, int64_t /*hidden*/) {}

  /// The experts that a layer chose, [rows, top_k], best first.
  virtual void expert_choices(const int32_t* /*experts*/, int64_t /*rows*/, int64_t /*top_k*/) {}
};

}  // namespace mxgpt::backend
