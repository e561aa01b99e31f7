#include "engine/logprobs.h"

#include <cmath>

#include "engine/logits.h"

namespace mxgpt::engine {

TokenScore compute_logprobs(std::span<const float> logits, int32_t token, int count) {
  const float max_logit = find_max_logit(logits);
  const double log_sum = std::log(sum_exp(logits, max_logit, 1)) + max_logit;
  const auto logprob = [&](float logit) { return static_cast<float>(logit - log_sum); };
  TokenScore result{.logprob = logprob(logits[token])};
  if (count == 0 || !std::isfinite(max_logit)) return result;
  std::vector<Candidate> top;
  top_candidates(logits, max_logit, count, top);
  for (const Candidate& c : top) result.top.push_back({c.token, logprob(c.logit)});
  return result;
}

}  // namespace mxgpt::engine
