// A model's weights in a GPU's memory, and whether they fit there.
#pragma once

#include "backend/cuda/device.h"
#include "runtime/cuda_executor.h"
#include "runtime/memory_plan.h"
#include "runtime/model.h"

namespace mxgpt::runtime {

/// One allocation, planned before anything is read, and filled tensor by tensor. The experts of the
/// last `host_layers` layers are in another, of pinned host memory, where kernels read those that
/// are chosen over the bus.
class CudaWeights {
 public:
  CudaWeights(const Model& model, int64_t offloaded_layers);
  const model::Weights& weights() const { return weights_; }
  int64_t offloaded_layers() const { return offloaded_layers_; }

  struct Bytes {
    int64_t device = 0, host = 0;
  };
  /// Without loading.
  static Bytes bytes(const Model& model, int64_t offloaded_layers);

 private:
  int64_t offloaded_layers_;
  cuda::Memory device_, host_;
  model::Weights weights_;
};

/// All that running `model` so takes of a GPU's memory.
MemoryPlan plan_cuda_memory(const Model& model, const RunnerOptions& options);

/// Throws VramError if the plan is beyond options.vram_budget or what the GPU has free. `loaded`:
/// the weights are there already.
void require_device_memory(const MemoryPlan& plan, const RunnerOptions& options, bool loaded);

}  // namespace mxgpt::runtime
