#include "engine/logprobs.h"

#include <algorithm>
#include <cmath>

namespace mxgpt {

Scored score(std::span<const float> logits, int32_t token, int count) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - most));
  const double log_sum = std::log(sum) + most;
  const auto logprob = [&](int32_t t) { return static_cast<float>(logits[t] - log_sum); };
  Scored result{.logprob = logprob(token)};
  // A heap of the likeliest so far, the least of them on top.
  const auto likelier = [&](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
  };
  for (size_t t = 0; t < logits.size() && count > 0; ++t) {
    const bool full = static_cast<int>(result.top.size()) == count;
    if (full && logits[t] <= result.top.front().logprob) continue;
    if (full) {
      std::pop_heap(result.top.begin(), result.top.end(), likelier);
      result.top.pop_back();
    }
    result.top.push_back({static_cast<int32_t>(t), logits[t]});
    std::push_heap(result.top.begin(), result.top.end(), likelier);
  }
  std::sort_heap(result.top.begin(), result.top.end(), likelier);
  for (TokenLogprob& t : result.top) t.logprob = logprob(t.token);
  return result;
}

}  // namespace mxgpt
