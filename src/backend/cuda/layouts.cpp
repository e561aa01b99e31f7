#include "backend/cuda/layouts.h"

#include "backend/cuda/fast/pack.h"

namespace mxgpt::cuda {

using fast::Kind;

Target target() {
  if (!missing().empty())
    return {.here = false, .fast = true, .multiprocessors = 132, .context = kUsualContext};
  const DeviceInfo info = device_info();
  return {.here = true,
          .fast = has_fast_kernels(),
          .multiprocessors = info.multiprocessors,
          .context = info.context};
}

Kind tile_kind(Format format) {
  return format == Format::q8_0 ? Kind::q8_0 : format == Format::mxfp4 ? Kind::mxfp4 : Kind::bf16;
}

bool can_be_tiles(Format format) {
  return format == Format::q8_0 || format == Format::mxfp4 || format == Format::bf16;
}

int64_t tiles_bytes(const Tensor& t) {
  return static_cast<int64_t>(fast::packed_bytes(tile_kind(t.format), t.slices,
                                                 static_cast<int>(t.rows), static_cast<int>(t.k)));
}

}  // namespace mxgpt::cuda
