#include "engine/generate.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "base/error.h"

namespace mxgpt::engine {

GenerationResult generate(Engine& engine, std::span<const int32_t> prompt,
                          const GenerateOptions& options,
                          const std::function<bool(int32_t token)>& on_token) {
  Request request{.prompt = {prompt.begin(), prompt.end()},
                  .sampling = options.sampling,
                  .stop_tokens = options.stop_tokens};
  if (options.max_tokens > 0) request.max_tokens = options.max_tokens;
  return generate(engine, std::move(request), on_token, options.cancelled);
}

GenerationResult generate(Engine& engine, Request request,
                          const std::function<bool(int32_t token)>& on_token,
                          const std::function<bool()>& cancelled) {
  if (static_cast<int64_t>(request.prompt.size()) >= engine.context()) {
    throw Error(field::kContextLength,
                fmt::format("{} tokens leave no room for an answer to a prompt of {}",
                            engine.context(), request.prompt.size()),
                "raise it or shorten the prompt");
  }
  const std::optional<int64_t> max_tokens = request.max_tokens;
  auto submitted = engine.submit(std::move(request));
  auto* stream = std::get_if<TokenStream>(&submitted);
  if (!stream) throw Error("engine", "accepts no requests");

  GenerationResult result;
  bool running = true;
  const auto stop = [&](FinishReason reason) {
    result.finish_reason = reason;
    running = false;
    stream->cancel();
  };
  while (true) {
    for (const StreamEvent& event :
         stream->wait(std::chrono::steady_clock::now() + std::chrono::milliseconds(50))) {
      if (const auto* token = std::get_if<ChoiceToken>(&event); token && running) {
        ++result.output_tokens;
        if (!on_token(token->token)) stop(FinishReason::stop);
      } else if (const auto* choice_end = std::get_if<ChoiceEnd>(&event)) {
        if (running && is_error(choice_end->finish_reason))
          throw Error("answer", choice_end->error);
        if (running) {
          const bool stopped = choice_end->finish_reason == FinishReason::stop;
          result.finish_reason = stopped ? FinishReason::stop : FinishReason::length;
          result.context_full = !stopped && result.output_tokens != max_tokens;
        }
        result.prompt_tokens = choice_end->prompt_tokens;
        result.cached_tokens = choice_end->cached_tokens;
        result.prefill_seconds = choice_end->prefill_seconds;
        result.decode_seconds = choice_end->decode_seconds;
        return result;
      }
    }
    if (running && cancelled && cancelled()) stop(FinishReason::cancelled);
  }
}

}  // namespace mxgpt::engine
