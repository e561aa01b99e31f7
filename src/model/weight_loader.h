// Loads weights into host memory: maps them, or copies and repacks them into mxgpt's own layout.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "model/model_file.h"

namespace mxgpt::model {

/// A tensor in host memory, in the GGUF layout, which mxgpt uses internally.
struct HostTensor {
  quant::Format format = quant::Format::f32;
  std::vector<int64_t> shape;  ///< TensorSpec::shape
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;  ///< keeps `bytes` alive; null for a view of a mapped file
};

/// Reads one tensor in the format of the file: a view of the mapping if alignment and layout allow
/// it, else a repacked copy. Throws Error as ModelFile::source does.
HostTensor read_tensor(const ModelFile& file, const TensorRef& tensor);
/// Reads one tensor as backends use it: vectors converted to f32.
HostTensor load_tensor(const ModelFile& file, const TensorRef& tensor);

struct LoadOptions {
  bool use_mmap = true;    ///< use weights in the mapped file; else copy them into private memory
  bool use_mlock = false;  ///< keep the weights resident: never dropped, never swapped out
};

/// How HostWeights holds a tensor.
struct HostTensorInfo {
  quant::Format format;
  size_t bytes;
  bool is_mapped;  ///< in the mapped file, not in private memory
};
/// Reads no weights. Throws Error as ModelFile::source does.
HostTensorInfo host_tensor_info(const ModelFile& file, const TensorRef& tensor,
                                const LoadOptions& options);

/// All weights of a model in host memory. The file outlives it.
class HostWeights {
 public:
  /// Throws Error if locking is requested and the system does not allow it.
  HostWeights(const ModelFile& file, const LoadOptions& options);
  const Weights& weights() const { return weights_; }

 private:
  Weights weights_;
  std::vector<HostTensor> tensors_;  // own what weights_ points to
};

}  // namespace mxgpt::model
