// The forward of Llama and its relatives: RMSNorm, rotary embedding, grouped-query attention, and
// an MLP with a gate. They differ in their tables and configurations alone.
#pragma once

#include <memory>

#include "model/config.h"
#include "model/weights.h"
#include "runtime/runner.h"

namespace mxgpt::model {

std::unique_ptr<runtime::Runner> create_llama_runner(const Config& config, const Weights& weights,
                                                     const runtime::RunnerOptions& options);

}  // namespace mxgpt::model
