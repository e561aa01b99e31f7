// Weight layouts in device memory (Tensor::layout), chosen when weights are loaded: that of the
// sm90 kernels if sm90::supports() the model, otherwise the file's.
#pragma once

#include "backend/cuda/device.h"
#include "backend/cuda/sm90/layout.h"
#include "backend/tensor.h"

namespace mxgpt::cuda {

enum WeightLayout : uint8_t {
  kFileLayout = 0,
  kMmaTiles = 1,            ///< sm90/layout.h
  kMmaTilesRopePaired = 2,  ///< likewise, with sm90::RowOrder::rope_halves_64
};

/// The GPU that memory is planned for.
struct DeviceCaps {
  bool is_local;  ///< false: no GPU here; plan for an H100
  bool has_sm90;  ///< runs the sm90 kernels
  int num_sms;
  int64_t context_bytes;  ///< size of a CUDA context
};
DeviceCaps device_caps();

/// Whether this machine's GPU runs the sm90 kernels.
bool supports_sm90();
/// Whether the sm90 kernels read `format`, and their name for it.
bool can_repack(quant::Format format);
sm90::WeightType weight_type(quant::Format format);
/// Packed size of a tensor of this shape; ignores its data.
int64_t repacked_bytes(const backend::Tensor& tensor);
/// Packs `blocks`, device memory in file order, into tensor.data in the order of tensor.layout.
void repack(const backend::Tensor& tensor, const std::byte* blocks, CudaStream stream);

/// The generic GEMM kernels over packed weights; without `embed`.
const FormatKernels& mma_tile_kernels(const backend::Tensor& tensor);

}  // namespace mxgpt::cuda
