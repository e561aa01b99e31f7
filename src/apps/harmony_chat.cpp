#include "apps/harmony_chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apps/answer_printer.h"
#include "apps/terminal.h"
#include "text/harmony/parser.h"

namespace mxgpt::apps {

namespace {

/// `text` belongs to `message`; calls of tools are printed when they are complete.
void print(AnswerPrinter& printer, const harmony::Message& message, std::string_view text) {
  if (text.empty() || message.is_tool_call()) return;
  message.channel == "analysis" ? printer.reasoning(text) : printer.answer(text);
}

}  // namespace

HarmonyChat::HarmonyChat(std::shared_ptr<const Tokenizer> tokenizer,
                         std::vector<int32_t> stop_tokens, ChatOptions options)
    : encoding_(std::make_shared<harmony::HarmonyEncoding>(std::move(tokenizer))),
      stop_tokens_(std::move(stop_tokens)),
      options_(std::move(options)) {
  for (const int32_t token : encoding_->stop_tokens()) stop_tokens_.push_back(token);
  options_.generate.stop_tokens = stop_tokens_;
  HarmonyChat::restart();
}

void HarmonyChat::restart() {
  conversation_ =
      harmony::begin_chat({.date = options_.date,
                           .effort = options_.effort.value_or(harmony::ReasoningEffort::kMedium),
                           .instructions = options_.system.value_or(""),
                           .functions = options_.functions});
}

Generation HarmonyChat::ask(Engine& engine, std::string_view text) {
  const size_t before = conversation_.messages.size();
  conversation_.messages.push_back(harmony::make_message(harmony::Role::kUser, std::string(text)));
  try {
    Generation total = answer(engine);
    while (total.ended == Ended::stopped && conversation_.messages.back().is_tool_call()) {
      const harmony::Message call = conversation_.messages.back();
      fmt::print("{}calls {} with {}{}\n", dim_on(), *call.recipient, call.text(), dim_off());
      std::string result;
      if (!read_line("result> ", result) || CtrlC::pressed()) {
        total.ended = Ended::cancelled;
        break;
      }
      conversation_.messages.push_back(harmony::tool_result(call, result));
      const Generation next = answer(engine);
      total.ended = next.ended;
      total.prompt_tokens += next.prompt_tokens;
      total.reused_tokens += next.reused_tokens;
      total.answer_tokens += next.answer_tokens;
      total.prompt_seconds += next.prompt_seconds;
      total.answer_seconds += next.answer_seconds;
    }
    return total;
  } catch (...) {
    conversation_.messages.resize(
        before);  // the conversation can go on as if this had not been asked
    throw;
  }
}

Generation HarmonyChat::answer(Engine& engine) {
  const std::vector<int32_t> prompt =
      encoding_->render_for_completion(conversation_, harmony::Analysis::kDropFinishedTurns);
  harmony::HarmonyParser parser(encoding_);
  AnswerPrinter printer(options_.show_reasoning, options_.stops);
  const auto show = [&](const std::string& text) {
    if (!parser.messages().empty()) print(printer, parser.messages().back().message, text);
  };
  const Generation result = generate(engine, prompt, options_.generate, [&](int32_t token) {
    show(parser.feed(token));
    // The turn is over after a final message whatever ends it: some models write <|end|> there and
    // then speak for the user.
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

}  // namespace mxgpt::apps
