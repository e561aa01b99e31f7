#include "engine/generate.h"

#include <fmt/format.h>

#include <chrono>

#include "base/error.h"

namespace mxgpt {

Generation generate(Session& session, std::span<const int32_t> prompt,
                    const GenerateOptions& options,
                    const std::function<bool(int32_t token)>& on_token) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  if (prompt.empty()) throw Error("prompt", "is empty");
  if (static_cast<int64_t>(prompt.size()) >= session.context()) {
    throw Error("prompt",
                fmt::format("{} tokens leave no room for an answer in a context of {}",
                            prompt.size(), session.context()),
                "shorten it, or raise --ctx");
  }
  Generation result;
  result.prompt_tokens = static_cast<int64_t>(prompt.size());
  result.reused_tokens = session.rewind_to_common_prefix(prompt);

  const auto start = Clock::now();
  std::span<const float> logits =
      session.feed(prompt.subspan(result.reused_tokens), {}, options.cancelled);
  result.prompt_seconds = seconds_since(start);
  const auto answer_start = Clock::now();
  Sampler sampler(options.sampling, prompt);
  while (true) {
    if (logits.empty() || (options.cancelled && options.cancelled())) {
      result.ended = Ended::cancelled;
      break;
    }
    const std::optional<int32_t> drawn = sampler.sample(logits);
    if (!drawn) {
      throw Error("model",
                  "the logits are not finite: the weights are damaged or the numbers overflowed",
                  "check the file with `mxgpt verify`");
    }
    const int32_t token = *drawn;
    ++result.answer_tokens;
    if (!on_token(token)) break;
    if (result.answer_tokens == options.max_tokens) {
      result.ended = Ended::max_tokens;
      break;
    }
    if (session.size() == session.context()) {
      result.ended = Ended::context_full;
      break;
    }
    logits = session.feed({&token, 1});
  }
  result.answer_seconds = seconds_since(answer_start);
  return result;
}

}  // namespace mxgpt
