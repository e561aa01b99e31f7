#include "server/api/logprobs.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "text/unicode.h"

namespace mxgpt::server {

namespace {

/// JSON has no infinity: OpenAI reports -9999 instead.
double finite_logprob(float logprob) {
  return std::isfinite(logprob) ? logprob : -9999.0;
}

/// A token's text as UTF-8; partial characters are replaced.
std::string text_of(const std::string& bytes) {
  std::string text;
  text::unicode::append_replacing_invalid(text, bytes);
  return text;
}

json::object describe(const ServedModel& served, text::TokenId token, float logprob) {
  const std::string bytes = served.token_bytes(token);
  json::array numbers;
  for (const unsigned char byte : bytes) numbers.emplace_back(byte);
  return {{"token", text_of(bytes)},
          {"logprob", finite_logprob(logprob)},
          {"bytes", std::move(numbers)}};
}

}  // namespace

json::object chat_logprob(const ServedModel& served, const engine::ChoiceToken& token) {
  json::object out = describe(served, token.token, token.logprob);
  json::array top;
  for (const engine::TokenLogprob& one : token.top)
    top.push_back(describe(served, one.token, one.logprob));
  out["top_logprobs"] = std::move(top);
  return out;
}

void CompletionLogprobs::add(const ServedModel& served, text::TokenId token, const float* logprob,
                             const std::vector<engine::TokenLogprob>& top) {
  const std::string text = text_of(served.token_bytes(token));
  tokens_.emplace_back(text);
  logprobs_.push_back(logprob ? json::value(finite_logprob(*logprob)) : json::value(nullptr));
  json::object top_logprobs;
  for (const engine::TokenLogprob& one : top)
    top_logprobs.emplace(text_of(served.token_bytes(one.token)), finite_logprob(one.logprob));
  top_.push_back(logprob ? json::value(std::move(top_logprobs)) : json::value(nullptr));
  offsets_.emplace_back(offset_);
  offset_ += static_cast<int64_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

json::object CompletionLogprobs::drain() {
  return {{"tokens", std::exchange(tokens_, {})},
          {"token_logprobs", std::exchange(logprobs_, {})},
          {"top_logprobs", std::exchange(top_, {})},
          {"text_offset", std::exchange(offsets_, {})}};
}

}  // namespace mxgpt::server
