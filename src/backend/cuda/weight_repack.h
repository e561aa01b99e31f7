// In which order the GPU holds a tensor's blocks (Tensor::layout), decided when it is loaded: that
// of the fast kernels where they can read it, else the file's.
#pragma once

#include "backend/cuda/device.h"
#include "backend/cuda/sm90/layout.h"
#include "backend/tensor.h"

namespace mxgpt::cuda {

enum WeightLayout : uint8_t {
  kFileLayout = 0,
  kMmaTiles = 1,            ///< fast/layout.h
  kMmaTilesRopePaired = 2,  ///< the same, rows in fast::RowOrder::rope_halves_64
};

/// The GPU that memory is planned for.
struct DeviceCaps {
  bool is_local;  ///< it is this machine's; without one, an H100
  bool has_sm90;  ///< it has the fast kernels
  int num_sms;
  int64_t context_bytes;  ///< bytes that CUDA takes for a process
};
DeviceCaps device_caps();

/// Whether this machine's has the fast kernels.
bool supports_sm90();
/// Whether they read `format`, and what they call it.
bool can_repack(quant::Format format);
sm90::WeightType weight_type(quant::Format format);
/// Of a tensor of this shape; its `data` is not looked at.
int64_t repacked_bytes(const backend::Tensor& tensor);
/// Puts `blocks`, as in a file and on the GPU, in the order of tensor.layout at tensor.data.
void repack(const backend::Tensor& tensor, const std::byte* blocks, CudaStream stream);

/// The generic kernels over tiles. There is no lookup.
const FormatKernels& mma_tile_kernels(const backend::Tensor& tensor);

}  // namespace mxgpt::cuda
