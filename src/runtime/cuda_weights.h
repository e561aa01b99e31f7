// The weights of a model in GPU memory.
#pragma once

#include "backend/cuda/device.h"
#include "runtime/cuda_executor.h"
#include "runtime/device.h"
#include "runtime/model.h"

namespace mxgpt::runtime {

/// The model as the choice of a CUDA backend sees it. Loads nothing.
cuda::ModelTraits stored_model_traits(const model::ModelFile& model);

/// One allocation, sized before anything is read and filled tensor by tensor. The experts of the
/// last `offloaded_layers` layers are in a second one in pinned host memory, which kernels read
/// over the bus.
class CudaWeights final : public DeviceWeights {
 public:
  CudaWeights(const Model& model, int64_t offloaded_layers);
  const model::Weights& weights() const override { return weights_; }
  int64_t offloaded_layers() const override { return offloaded_layers_; }

  struct Bytes {
    int64_t device = 0, host = 0;
  };
  /// Sizes of the two allocations, without loading.
  static Bytes bytes(const Model& model, int64_t offloaded_layers);

 private:
  int64_t offloaded_layers_;
  cuda::Memory device_, host_;
  model::Weights weights_;
};

}  // namespace mxgpt::runtime
