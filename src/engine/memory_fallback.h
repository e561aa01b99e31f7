// Fallbacks when device memory is too small, cheapest first: the first only slows prefill, the last
// slows every token. A pure function of the options.
#pragma once

#include <optional>

#include "engine/engine.h"

namespace mxgpt::engine {

/// Replaces options that are 0 by their defaults.
EngineOptions resolve_defaults(const EngineShape& shape, EngineOptions options);

/// Applies the first of these fallbacks that is possible to `options`, which have no defaults left,
/// and returns it. Empty if none is possible.
/// 1. Half the token budget per step, down to kMinBatchedTokens.
/// 2. Half the concurrent sequences and KV cache tokens, down to one sequence of the context
/// length.
/// 3. A KV cache in q8_0.
/// 4. Experts of one more layer, from the last, in host memory, unless options.no_offload.
/// The context length stays the same, so accepted requests still fit.
std::optional<MemoryFallback> next_fallback(const EngineShape& shape, EngineOptions& options);
inline constexpr int64_t kMinBatchedTokens = 64;

}  // namespace mxgpt::engine
