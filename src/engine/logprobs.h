// Log probabilities for the client.
#pragma once

#include <span>
#include <vector>

#include "engine/request.h"

namespace mxgpt::engine {

struct TokenScore {
  float logprob = 0;
  std::vector<TokenLogprob> top;  ///< likeliest first, the lower token first among equals
};

/// Of `token` under the softmax of the logits, and of the `count` likeliest. Logits that are no
/// numbers give results that are none.
TokenScore compute_logprobs(std::span<const float> logits, int32_t token, int count);

}  // namespace mxgpt::engine
