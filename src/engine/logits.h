// Passes over the logits of a whole vocabulary, in vectors: a step draws for many sequences from
// 201,088 tokens each. Results depend neither on the machine nor on what else is drawn.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/sampling_math.h"

namespace mxgpt::engine {

struct Candidate {
  float logit;
  float weight;  ///< exp((logit - peak) · scale)
  int32_t token;
};
/// The lower token first among equals.
inline bool more_probable(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

/// The largest; NaN if any is NaN.
float find_max_logit(std::span<const float> logits);

/// The first token with the value of the peak.
int32_t find_first(std::span<const float> logits, float max_logit);

/// Σ exp((logit - peak) · scale). To 1e-6 of itself.
double sum_exp(std::span<const float> logits, float max_logit, float scale);

/// The token at which the sum of the weights before and its own first exceeds `share` of all of
/// them, share in [0, 1). Never one that weighs nothing.
int32_t token_at_cdf(std::span<const float> logits, float max_logit, float scale, double u);

/// Tokens whose logits are at most `below` under the peak, in order.
void collect_candidates(std::span<const float> logits, float max_logit, float scale, float margin,
                        std::vector<Candidate>& out);

/// The `count` likeliest, likeliest first, with weights of scale 1.
void top_candidates(std::span<const float> logits, float max_logit, int64_t count,
                    std::vector<Candidate>& out);

}  // namespace mxgpt::engine
