// Log probabilities that clients request.
#pragma once

#include <span>
#include <vector>

#include "engine/request.h"

namespace mxgpt::engine {

struct TokenScore {
  float logprob = 0;
  std::vector<TokenLogprob> top;  ///< most probable first; ties by token id
};

/// Log probabilities of `token` and of the `count` most probable tokens under the softmax of the
/// logits. NaN logits give NaN results.
TokenScore compute_logprobs(std::span<const float> logits, int32_t token, int count);

}  // namespace mxgpt::engine
