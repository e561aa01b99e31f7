// A model's weights in a GPU's memory, and whether they fit there.
#pragma once

#include "backend/cuda/device.h"
#include "base/error.h"
#include "model/cuda_runner.h"
#include "model/model.h"

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

/// A GPU's memory does not suffice; the numbers are bytes.
struct VramError : Error {
  VramError(const CudaPlan& plan, int64_t budget, int64_t free, int64_t fitting_pages);

  CudaPlan plan;
  int64_t budget;         ///< 0: none was set
  int64_t free;           ///< on the GPU, of what is not mxgpt's
  int64_t fitting_pages;  ///< of the KV cache beside the rest; 0: not even the rest fits
};

/// Throws VramError if the plan is beyond options.vram_budget or what the GPU has free. `loaded`:
/// the weights are there already.
void require_vram(const CudaPlan& plan, const RunnerOptions& options, bool loaded);

}  // namespace mxgpt
