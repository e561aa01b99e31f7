// One answer: a prompt through a session, then token after token until something ends it.
#pragma once

#include <functional>
#include <span>

#include "engine/sampler.h"
#include "engine/session.h"

namespace mxgpt {

enum class Ended { stopped, max_tokens, context_full, cancelled };

struct Generation {
  Ended ended = Ended::stopped;
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;  ///< of the prompt, found in the cache
  int64_t answer_tokens = 0;
  double prompt_seconds = 0, answer_seconds = 0;
};

struct GenerateOptions {
  SamplingParams sampling;
  int64_t max_tokens = 0;  ///< 0: until the context is full
  /// Asked before every step; true ends the answer. May be empty.
  std::function<bool()> cancelled;
};

/// `on_token` sees every token drawn, the one that ends the answer included, and returns whether to
/// go on. Throws Error if the prompt does not fit.
Generation generate(Session& session, std::span<const int32_t> prompt,
                    const GenerateOptions& options,
                    const std::function<bool(int32_t token)>& on_token);

}  // namespace mxgpt
