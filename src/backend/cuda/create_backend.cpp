#include "backend/cuda/backend.h"
#include "backend/cuda/generic/generic_backend.h"
#include "backend/cuda/sm90/gpt_oss_backend.h"
#include "base/log.h"

namespace mxgpt::cuda {

std::unique_ptr<CudaBackend> create_generic_backend(const backend::MaxShapes& max_shapes,
                                                    DeviceArena& arena,
                                                    kernels::AccumType accum_type) {
  return std::make_unique<GenericBackend>(max_shapes, arena, accum_type);
}

std::unique_ptr<CudaBackend> create_backend(const BackendSpec& spec, DeviceArena& arena) {
  if (const sm90::Support support = sm90::supports(spec.model, device_caps(), spec.run); !support) {
    log::info("sm90 kernels are not used: {}", support.reason);
    return create_generic_backend(spec.max_shapes, arena, spec.run.accum_type);
  }
  return std::make_unique<sm90::Sm90GptOssBackend>(spec, arena);
}

}  // namespace mxgpt::cuda
