#include "engine/logprobs.h"

#include <cmath>

#include "engine/logits.h"

namespace mxgpt {

Scored score(std::span<const float> logits, int32_t token, int count) {
  const float most = peak(logits);
  const double log_sum = std::log(sum_weights(logits, most, 1)) + most;
  const auto logprob = [&](float logit) { return static_cast<float>(logit - log_sum); };
  Scored result{.logprob = logprob(logits[token])};
  if (count == 0 || !std::isfinite(most)) return result;
  std::vector<Candidate> top;
  likeliest(logits, most, count, top);
  for (const Candidate& c : top) result.top.push_back({c.token, logprob(c.logit)});
  return result;
}

}  // namespace mxgpt
