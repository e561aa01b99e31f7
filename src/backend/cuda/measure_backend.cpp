#include "backend/cuda/backend.h"
#include "backend/cuda/generic/workspace.h"
#include "backend/cuda/sm90/workspace.h"

namespace mxgpt::cuda {

namespace {

bool uses_sm90(const BackendSpec& spec, const DeviceCaps& caps) {
  return static_cast<bool>(sm90::supports(spec.model, caps, spec.run));
}

void measure_step(const backend::MaxShapes& max_shapes, DeviceArena& arena) {
  arena.allocate<int32_t>(Step::metadata_length(max_shapes));
}

}  // namespace

void measure_generic_backend(const backend::MaxShapes& max_shapes, DeviceArena& arena) {
  measure_step(max_shapes, arena);
  const GenericWorkspace workspace(max_shapes, arena);
}

void measure_backend(const BackendSpec& spec, DeviceArena& arena) {
  if (!uses_sm90(spec, device_caps())) return measure_generic_backend(spec.max_shapes, arena);
  measure_step(spec.max_shapes, arena);
  const sm90::Workspace workspace(spec.max_shapes, arena);
}

int64_t router_partial_floats(const BackendSpec& spec) {
  const DeviceCaps caps = device_caps();
  if (!uses_sm90(spec, caps)) return 0;
  return static_cast<int64_t>(
      sm90::router_part_floats(sm90::kMaxRows, static_cast<int>(spec.model.experts), caps.num_sms));
}

}  // namespace mxgpt::cuda
