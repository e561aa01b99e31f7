// What an engine gives up, one after another, when a GPU's memory does not suffice: first what
// costs speed alone, and only of prompts, last what costs every token most. A pure decision.
#pragma once

#include <optional>

#include "engine/engine.h"

namespace mxgpt::engine {

/// Context and cache as they are where the options leave them open.
EngineOptions resolve_defaults(const EngineShape& shape, EngineOptions options);

/// Makes `options`, which are resolved, smaller by one step of the first of these that can be; says
/// which. Nothing if none can.
///  1. Prompts in smaller pieces: half the rows of a step, down to kLeastRows.
///  2. Fewer answers at once: half of them and of the cache, down to one of the whole context.
///  3. A KV cache of q8_0.
///  4. The experts of one more of the last layers in host memory, unless options.resident.
/// The context stays what it was: requests that were taken still fit.
std::optional<MemoryFallback> next_fallback(const EngineShape& shape, EngineOptions& options);
inline constexpr int64_t kMinBatchedTokens = 64;

}  // namespace mxgpt::engine
