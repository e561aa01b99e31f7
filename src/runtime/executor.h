// Memory and execution of one runner on one device.
#pragma once

#include <functional>
#include <span>

#include "backend/backend.h"
#include "model/run_state.h"

namespace mxgpt::runtime {

/// Owns a backend, the activation buffers and the KV cache of one model, allocated once.
class StepExecutor {
 public:
  virtual ~StepExecutor() = default;

  virtual backend::Backend& backend() = 0;
  virtual const model::RunState& state() const = 0;
  /// Runs one step, whose blocks `forward` enqueues, and waits for it. Returns the logits of the
  /// batch's logit rows, [logit_rows, vocabulary], in host memory, valid until the next step.
  virtual std::span<const float> run(const backend::Batch& batch,
                                     const std::function<void()>& forward) = 0;
};

}  // namespace mxgpt::runtime
