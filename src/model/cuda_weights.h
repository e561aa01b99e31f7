// A model's weights in a GPU's memory, and whether they fit there.
#pragma once

#include "backend/cuda/device.h"
#include "model/cuda_runner.h"
#include "model/model.h"
#include "model/vram.h"

namespace mxgpt {

/// One allocation, planned before anything is read, and filled tensor by tensor.
class CudaWeights {
 public:
  explicit CudaWeights(const Model& model);
  const Weights& weights() const { return weights_; }

  /// Without loading.
  static int64_t bytes(const Model& model);

 private:
  cuda::Memory device_;
  Weights weights_;
};

/// All that running `model` so takes of a GPU's memory.
CudaPlan cuda_plan(const Model& model, const RunnerOptions& options);

/// Throws VramError if the plan is beyond options.vram_budget or what the GPU has free. `loaded`:
/// the weights are there already.
void require_vram(const CudaPlan& plan, const RunnerOptions& options, bool loaded);

}  // namespace mxgpt
