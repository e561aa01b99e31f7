#include "engine/generate.h"

#include <fmt/format.h>

#include <chrono>

#include "base/error.h"

namespace mxgpt {

Generation generate(Engine& engine, std::span<const int32_t> prompt, const GenerateOptions& options,
                    const std::function<bool(int32_t token)>& on_token) {
  if (static_cast<int64_t>(prompt.size()) >= engine.context()) {
    throw Error("prompt",
                fmt::format("{} tokens leave no room for an answer in a context of {}",
                            prompt.size(), engine.context()),
                "shorten it, or raise --ctx");
  }
  Request request{.prompt = {prompt.begin(), prompt.end()},
                  .sampling = options.sampling,
                  .stop_tokens = options.stop_tokens};
  if (options.max_tokens > 0) request.max_tokens = options.max_tokens;
  auto submitted = engine.submit(std::move(request));
  auto* stream = std::get_if<TokenStream>(&submitted);
  if (!stream) throw Error("engine", "takes no requests");

  Generation result;
  bool going_on = true;
  const auto stop = [&](Ended why) {
    result.ended = why;
    going_on = false;
    stream->cancel();
  };
  while (true) {
    for (const StreamEvent& event :
         stream->wait(std::chrono::steady_clock::now() + std::chrono::milliseconds(50))) {
      if (const auto* token = std::get_if<ChoiceToken>(&event); token && going_on) {
        ++result.answer_tokens;
        if (!on_token(token->token)) stop(Ended::stopped);
      } else if (const auto* end = std::get_if<ChoiceEnd>(&event)) {
        if (going_on && is_error(end->finish)) throw Error("answer", end->what);
        if (going_on) {
          result.ended = end->finish == Finish::stop                  ? Ended::stopped
                         : result.answer_tokens == options.max_tokens ? Ended::max_tokens
                                                                      : Ended::context_full;
        }
        result.prompt_tokens = end->prompt_tokens;
        result.reused_tokens = end->cached_tokens;
        result.prompt_seconds = end->prompt_seconds;
        result.answer_seconds = end->answer_seconds;
        return result;
      }
    }
    if (going_on && options.cancelled && options.cancelled()) stop(Ended::cancelled);
  }
}

}  // namespace mxgpt
