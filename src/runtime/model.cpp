#include "runtime/model.h"

#include "runtime/cuda_weights.h"
#include "runtime/model_runner.h"

namespace mxgpt::runtime {

Model::Model(const std::filesystem::path& path, model::LoadOptions load_options)
    : ModelFile(path), load_options_(load_options) {}

Model::~Model() = default;

std::unique_ptr<Model> Model::open(const std::filesystem::path& path,
                                   model::LoadOptions load_options) {
  return std::make_unique<Model>(path, load_options);
}

const model::Weights& Model::weights() const {
  const std::lock_guard lock(mutex_);
  if (!host_weights_) host_weights_ = std::make_unique<model::HostWeights>(*this, load_options_);
  return host_weights_->weights();
}

const model::Weights& Model::weights(backend::Device device) const {
  if (device == backend::Device::cpu) return weights();
  const std::lock_guard lock(mutex_);
  if (!cuda_weights_) cuda_weights_ = std::make_unique<CudaWeights>(*this, 0);
  return cuda_weights_->weights();
}

std::unique_ptr<Runner> Model::create_runner(const RunnerOptions& options) const {
  if (options.device == backend::Device::cpu)
    return runtime::create_runner(architecture(), config(), weights(), options);
  const std::lock_guard lock(mutex_);
  if (cuda_weights_ && cuda_weights_->offloaded_layers() != options.cpu_offload_layers)
    cuda_weights_.reset();
  require_device_memory(plan_cuda_memory(*this, options), options, cuda_weights_ != nullptr);
  if (!cuda_weights_)
    cuda_weights_ = std::make_unique<CudaWeights>(*this, options.cpu_offload_layers);
  return runtime::create_runner(architecture(), config(), cuda_weights_->weights(), options);
}

}  // namespace mxgpt::runtime
