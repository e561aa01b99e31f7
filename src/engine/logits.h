// Vectorized passes over the logits of a vocabulary (201,088 tokens for gpt-oss). Results do not
// depend on the machine or on other sequences.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/sampling_math.h"

namespace mxgpt::engine {

struct Candidate {
  float logit;
  float weight;  ///< exp((logit - max_logit) · scale)
  int32_t token;
};
/// Ties go to the lower token id.
inline bool more_probable(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

/// NaN if any logit is NaN.
float find_max_logit(std::span<const float> logits);

/// The first token with this logit.
int32_t find_first(std::span<const float> logits, float max_logit);

/// Σ exp((logit - max_logit) · scale), to a relative error of 1e-6.
double sum_exp(std::span<const float> logits, float max_logit, float scale);

/// The first token whose cumulative weight exceeds `u` times the total, u in [0, 1). Never a token
/// of weight 0.
int32_t token_at_cdf(std::span<const float> logits, float max_logit, float scale, double u);

/// Tokens whose logits are at least max_logit - margin, in order of token id.
void collect_candidates(std::span<const float> logits, float max_logit, float scale, float margin,
                        std::vector<Candidate>& out);

/// The `count` most probable tokens in descending order, with weights of scale 1.
void top_candidates(std::span<const float> logits, float max_logit, int64_t count,
                    std::vector<Candidate>& out);

}  // namespace mxgpt::engine
