// Log probabilities in the two formats of OpenAI's API.
#pragma once

#include "base/json.h"
#include "engine/request.h"
#include "server/api/served_model.h"

namespace mxgpt::server {

/// Chat completions: {token, logprob, bytes, top_logprobs}.
json::object chat_logprob(const ServedModel& served, const engine::ChoiceToken& token);

/// Completions: four parallel arrays, including the offset of each token in the text.
class CompletionLogprobs {
 public:
  /// `logprob` is null for the first token of the prompt.
  void add(const ServedModel& served, text::TokenId token, const float* logprob,
           const std::vector<engine::TokenLogprob>& top);
  bool empty() const { return tokens_.empty(); }
  /// Returns and clears the tokens since the last call.
  json::object drain();

 private:
  json::array tokens_, logprobs_, top_, offsets_;
  int64_t offset_ = 0;
};

}  // namespace mxgpt::server
