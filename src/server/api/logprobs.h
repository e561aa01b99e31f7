// Log-probabilities in the two shapes of OpenAI's API.
#pragma once

#include "base/json.h"
#include "engine/request.h"
#include "server/api/served_model.h"

namespace mxgpt::server {

/// Of chats: {token, logprob, bytes, top_logprobs}.
json::object chat_logprob(const ServedModel& served, const engine::ChoiceToken& token);

/// Of completions: four parallel arrays, and the offset of each token in the text.
class CompletionLogprobs {
 public:
  /// `logprob` is null for a prompt's first token.
  void add(const ServedModel& served, text::TokenId token, const float* logprob,
           const std::vector<engine::TokenLogprob>& top);
  bool empty() const { return tokens_.empty(); }
  /// What there is since the last call.
  json::object drain();

 private:
  json::array tokens_, logprobs_, top_, offsets_;
  int64_t offset_ = 0;
};

}  // namespace mxgpt::server
