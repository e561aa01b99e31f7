// A model that can run: its file, its weights on each device that uses them, and its runners.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>

#include "model/model_file.h"
#include "model/weight_loader.h"
#include "runtime/runner.h"

namespace mxgpt::runtime {

class CudaWeights;

/// Loads weights on first use. Thread-safe. Runners refer to the weights, so a model outlives its
/// runners.
class Model : public model::ModelFile {
 public:
  /// Throws Error as ModelFile does. Loads no weights.
  explicit Model(const std::filesystem::path& path, model::LoadOptions load_options = {});
  static std::unique_ptr<Model> open(const std::filesystem::path& path,
                                     model::LoadOptions load_options = {});
  ~Model();

  const model::LoadOptions& load_options() const { return load_options_; }
  /// How weights() holds a tensor.
  model::HostTensorInfo host_tensor_info(const model::TensorRef& tensor) const {
    return model::host_tensor_info(*this, tensor, load_options_);
  }
  /// All tensors in host memory; vectors as f32. Throws Error if locking is requested and not
  /// allowed.
  const model::Weights& weights() const;
  /// All tensors in the memory of a device.
  const model::Weights& weights(backend::Device device) const;
  /// A runner on options.device. Throws Error, before anything is loaded, if weights, KV cache and
  /// workspace do not fit. All runners on one device at a time offload the same number of layers:
  /// another number loads the weights anew.
  std::unique_ptr<Runner> create_runner(const RunnerOptions& options) const;

 private:
  model::LoadOptions load_options_;
  mutable std::mutex mutex_;  // of the weights
  mutable std::unique_ptr<model::HostWeights> host_weights_;
  mutable std::unique_ptr<CudaWeights> cuda_weights_;
};

}  // namespace mxgpt::runtime
