// The forward of Llama and its relatives: RMSNorm, rotary embedding, grouped-query attention and a
// gated MLP. They differ only in their tensor tables and configurations.
#pragma once

#include "backend/backend.h"
#include "model/config.h"
#include "model/run_state.h"
#include "model/weights.h"

namespace mxgpt::model {

/// The whole model, over the batch of the current step.
void forward_llama(backend::Backend& b, const Config& c, const Weights& w, const RunState& s);

}  // namespace mxgpt::model
