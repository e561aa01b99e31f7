#include "runtime/model.h"

#include "runtime/model_runner.h"

namespace mxgpt::runtime {

Model::Model(const std::filesystem::path& path, model::LoadOptions load_options)
    : ModelFile(path), load_options_(load_options) {}

Model::~Model() = default;

std::unique_ptr<Model> Model::open(const std::filesystem::path& path,
                                   model::LoadOptions load_options) {
  return std::make_unique<Model>(path, load_options);
}

const model::Weights& Model::weights(std::string_view device_name) const {
  const Device& device = runtime::device(device_name);
  const std::lock_guard lock(mutex_);
  std::unique_ptr<DeviceWeights>& weights = weights_[device.name()];
  if (!weights) weights = device.load_weights(*this, 0);
  return weights->weights();
}

std::unique_ptr<Runner> Model::create_runner(const RunnerOptions& options) const {
  const Device& device = runtime::device(options.device);
  const std::lock_guard lock(mutex_);
  std::unique_ptr<DeviceWeights>& weights = weights_[device.name()];
  if (weights && !device.is_host() && weights->offloaded_layers() != options.cpu_offload_layers)
    weights.reset();
  device.require_memory(*this, options, weights != nullptr);
  if (!weights) weights = device.load_weights(*this, options.cpu_offload_layers);
  return runtime::create_runner(architecture(), config(), weights->weights(), options);
}

}  // namespace mxgpt::runtime
