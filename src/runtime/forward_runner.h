// Turns an architecture's forward into a Runner on the device that is asked for.
#pragma once

#include <memory>

#include "runtime/cpu_runner.h"
#include "runtime/cuda_runner.h"

namespace mxgpt::runtime {

/// `forward(backend, config, weights, memory, batch)` is built for every backend. Config and
/// weights, which are in the device's memory, outlive the runner.
template <class Forward>
std::unique_ptr<Runner> create_runner(const model::Config& config, const model::Weights& weights,
                                      const RunnerOptions& options, Forward forward) {
  if (options.device == backend::Device::cuda)
    return std::make_unique<CudaRunner<Forward>>(config, weights, options, forward);
  return std::make_unique<CpuRunner<Forward>>(config, weights, options, forward);
}

}  // namespace mxgpt::runtime
