// A model's weights in a GPU's memory, and whether they fit there.
#pragma once

#include "backend/cuda/device.h"
#include "model/cuda_runner.h"
#include "model/model.h"
#include "model/vram.h"

namespace mxgpt {

/// One allocation, planned before anything is read, and filled tensor by tensor. The experts of the
/// last `host_layers` layers are in another, of pinned host memory, where kernels read those that
/// are chosen over the bus.
class CudaWeights {
 public:
  CudaWeights(const Model& model, int64_t host_layers);
  const Weights& weights() const { return weights_; }
  int64_t host_layers() const { return host_layers_; }

  struct Bytes {
    int64_t device = 0, host = 0;
  };
  /// Without loading.
  static Bytes bytes(const Model& model, int64_t host_layers);

 private:
  int64_t host_layers_;
  cuda::Memory device_, host_;
  Weights weights_;
};

/// All that running `model` so takes of a GPU's memory.
CudaPlan cuda_plan(const Model& model, const RunnerOptions& options);

/// Throws VramError if the plan is beyond options.vram_budget or what the GPU has free. `loaded`:
/// the weights are there already.
void require_vram(const CudaPlan& plan, const RunnerOptions& options, bool loaded);

}  // namespace mxgpt
