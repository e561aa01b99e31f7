// The forward of Llama and its relatives: RMSNorm, rotary embedding, grouped-query attention, and
// an MLP with a gate. They differ in their tables and configurations alone.
#pragma once

#include <memory>

#include "model/config.h"
#include "model/runner.h"
#include "model/weights.h"

namespace mxgpt {

std::unique_ptr<Runner> llama_runner(const Config& config, const Weights& weights,
                                     const RunnerOptions& options);

}  // namespace mxgpt
