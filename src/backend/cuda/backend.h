// A backend on one GPU. Weights, buffers and the KV cache are device memory; `Batch` is host
// memory. Includes no CUDA header.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/sm90/support.h"
#include "backend/cuda/step.h"
#include "kernels/accum_type.h"

namespace mxgpt::cuda {

/// begin_step() stages the batch; upload() of its step must precede the blocks. All work is
/// enqueued on the stream of its step.
class CudaBackend : public backend::Backend {
 public:
  virtual Step& step() = 0;
};

/// Parameters of create_backend().
struct BackendSpec {
  backend::MaxShapes max_shapes;
  ModelTraits model;
  RunTraits run;
};

/// Allocates from `arena` what create_backend() allocates, so that memory can be planned without a
/// GPU.
void measure_backend(const BackendSpec& spec, DeviceArena& arena);
/// Floats of Router::partial_logits for this backend; 0 if it does not use them.
int64_t router_partial_floats(const BackendSpec& spec);

/// The sm90 backend if it supports the model and the run, otherwise the generic one.
std::unique_ptr<CudaBackend> create_backend(const BackendSpec& spec, DeviceArena& arena);
/// The generic backend, for checks of its kernels.
std::unique_ptr<CudaBackend> create_generic_backend(
    const backend::MaxShapes& max_shapes, DeviceArena& arena,
    kernels::AccumType accum_type = kernels::AccumType::f32);
void measure_generic_backend(const backend::MaxShapes& max_shapes, DeviceArena& arena);

}  // namespace mxgpt::cuda
