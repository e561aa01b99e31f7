#include "cli/harmony_chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cli/stream_printer.h"
#include "cli/terminal.h"
#include "text/chat/harmony/parser.h"

namespace mxgpt::cli {

namespace {

/// `text` belongs to `message`; calls of tools are printed when they are complete.
void print(StreamPrinter& printer, const harmony::Message& message, std::string_view text) {
  if (text.empty() || message.is_tool_call()) return;
  message.channel == "analysis" ? printer.reasoning(text) : printer.content(text);
}

}  // namespace

HarmonyChat::HarmonyChat(std::shared_ptr<const text::Tokenizer> tokenizer,
                         std::vector<int32_t> stop_tokens, ChatOptions options)
    : encoding_(std::make_shared<harmony::HarmonyEncoding>(std::move(tokenizer))),
      stop_tokens_(std::move(stop_tokens)),
      options_(std::move(options)) {
  for (const int32_t token : encoding_->stop_tokens()) stop_tokens_.push_back(token);
  options_.generate.stop_tokens = stop_tokens_;
  HarmonyChat::reset();
}

void HarmonyChat::reset() {
  conversation_ = harmony::make_conversation(
      {.date = options_.date,
       .reasoning_effort = options_.effort.value_or(harmony::ReasoningEffort::kMedium),
       .instructions = options_.system.value_or(""),
       .functions = options_.tools});
}

engine::GenerationResult HarmonyChat::ask(engine::Engine& engine, std::string_view text) {
  const size_t before = conversation_.messages.size();
  conversation_.messages.push_back(harmony::make_message(harmony::Role::kUser, std::string(text)));
  try {
    engine::GenerationResult total = run_turn(engine);
    while (total.end == engine::GenerationEnd::stopped &&
           conversation_.messages.back().is_tool_call()) {
      const harmony::Message call = conversation_.messages.back();
      fmt::print("{}calls {} with {}{}\n", dim_on(), *call.recipient, call.text(), dim_off());
      std::string result;
      if (!read_line("result> ", result) || SignalGuard::interrupted()) {
        total.end = engine::GenerationEnd::cancelled;
        break;
      }
      conversation_.messages.push_back(harmony::tool_result(call, result));
      const engine::GenerationResult next = run_turn(engine);
      total.end = next.end;
      total.prompt_tokens += next.prompt_tokens;
      total.cached_tokens += next.cached_tokens;
      total.output_tokens += next.output_tokens;
      total.prefill_seconds += next.prefill_seconds;
      total.decode_seconds += next.decode_seconds;
    }
    return total;
  } catch (...) {
    conversation_.messages.resize(
        before);  // the conversation can go on as if this had not been asked
    throw;
  }
}

engine::GenerationResult HarmonyChat::run_turn(engine::Engine& engine) {
  const std::vector<int32_t> prompt =
      encoding_->render_for_completion(conversation_, harmony::AnalysisPolicy::kDropFinishedTurns);
  harmony::HarmonyParser parser(encoding_);
  StreamPrinter printer(options_.show_reasoning, options_.stops);
  const auto show = [&](const std::string& text) {
    if (!parser.messages().empty()) print(printer, parser.messages().back().message, text);
  };
  const engine::GenerationResult result =
      engine::generate(engine, prompt, options_.generate, [&](int32_t token) {
        show(parser.feed(token));
        // The turn is over after a final message whatever ends it: some models write <|end|> there
        // and then speak for the user.
        const bool final = !parser.messages().empty() && parser.messages().back().complete() &&
                           parser.messages().back().message.channel == "final";
        return !final && !printer.stopped() &&
               std::find(stop_tokens_.begin(), stop_tokens_.end(), token) == stop_tokens_.end();
      });
  show(parser.finish());
  printer.finish();
  for (const harmony::ParsedMessage& parsed : parser.messages())
    conversation_.messages.push_back(parsed.message);
  return result;
}

}  // namespace mxgpt::cli
