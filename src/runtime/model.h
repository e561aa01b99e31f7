// A model that can run: its file, its weights on each device that uses them, and its runners.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>

#include "model/model_file.h"
#include "model/weight_loader.h"
#include "runtime/device.h"
#include "runtime/runner.h"

namespace mxgpt::runtime {

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
  /// All tensors in the memory of a device; vectors as f32. Throws Error if they cannot be loaded.
  const model::Weights& weights(std::string_view device = "cpu") const;
  /// A runner on options.device. Throws Error, before anything is loaded, if weights, KV cache and
  /// workspace do not fit. All runners on one device at a time offload the same number of layers:
  /// another number loads the weights anew.
  std::unique_ptr<Runner> create_runner(const RunnerOptions& options) const;

 private:
  model::LoadOptions load_options_;
  mutable std::mutex mutex_;                                                    // of weights_
  mutable std::map<std::string_view, std::unique_ptr<DeviceWeights>> weights_;  // by device name
};

}  // namespace mxgpt::runtime
