// In which order the GPU holds a tensor's blocks (Tensor::layout), decided when it is loaded: that
// of the fast kernels where they can read it, else the file's.
#pragma once

#include "backend/cuda/device.h"
#include "backend/cuda/fast/layout.h"
#include "backend/tensor.h"

namespace mxgpt::cuda {

enum Layout : uint8_t {
  kAsInFile = 0,
  kTiles = 1,            ///< fast/layout.h
  kTilesRopeHalves = 2,  ///< the same, rows in fast::RowOrder::rope_halves_64
};

/// The GPU that memory is planned for.
struct Target {
  bool here;  ///< it is this machine's; without one, an H100
  bool fast;  ///< it has the fast kernels
  int multiprocessors;
  int64_t context;  ///< bytes that CUDA takes for a process
};
Target target();

/// Whether this machine's has the fast kernels.
bool has_fast_kernels();
/// Whether they read `format`, and what they call it.
bool can_be_tiles(Format format);
fast::Kind tile_kind(Format format);
/// Of a tensor of this shape; its `data` is not looked at.
int64_t tiles_bytes(const Tensor& tensor);
/// Puts `blocks`, as in a file and on the GPU, in the order of tensor.layout at tensor.data.
void make_tiles(const Tensor& tensor, const std::byte* blocks, DeviceStream stream);

/// The generic kernels over tiles. There is no lookup.
const DeviceKernels& tile_kernels(const Tensor& tensor);

}  // namespace mxgpt::cuda
