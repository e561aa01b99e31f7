// Passes over the logits of a whole vocabulary, in vectors: a step draws for many sequences from
// 201,088 tokens each. Results depend neither on the machine nor on what else is drawn.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/draw.h"

namespace mxgpt {

struct Candidate {
  float logit;
  float weight;  ///< exp((logit - peak) · scale)
  int32_t token;
};
/// The lower token first among equals.
inline bool likelier(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

/// The largest; NaN if any is NaN.
float peak(std::span<const float> logits);

/// The first token with the value of the peak.
int32_t first_at(std::span<const float> logits, float peak);

/// Σ exp((logit - peak) · scale). To 1e-6 of itself.
double sum_weights(std::span<const float> logits, float peak, float scale);

/// The token at which the sum of the weights before and its own first exceeds `share` of all of
/// them, share in [0, 1). Never one that weighs nothing.
int32_t token_at_share(std::span<const float> logits, float peak, float scale, double share);

/// Tokens whose logits are at most `below` under the peak, in order.
void collect(std::span<const float> logits, float peak, float scale, float below,
             std::vector<Candidate>& out);

/// The `count` likeliest, likeliest first, with weights of scale 1.
void likeliest(std::span<const float> logits, float peak, int64_t count,
               std::vector<Candidate>& out);

}  // namespace mxgpt
