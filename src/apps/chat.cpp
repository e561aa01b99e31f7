#include "apps/chat.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/terminal.h"
#include "text/stop_strings.h"

namespace mxgpt::apps {

namespace {

/// Prints an answer's messages as their text arrives: the final channel as it is, other channels
/// dimmed or not at all.
class AnswerPrinter {
 public:
  AnswerPrinter(bool show_reasoning, std::vector<std::string> stops)
      : show_reasoning_(show_reasoning), stops_(std::move(stops)) {}
  ~AnswerPrinter() { end_section(); }

  /// `text` belongs to `message`; calls of tools are printed when they are complete.
  void print(const harmony::Message& message, std::string_view text) {
    if (text.empty() || message.is_tool_call()) return;
    const bool reasoning = message.channel == "analysis";
    if (reasoning) {
      if (show_reasoning_) write(text, true);
    } else {
      write(stops_.push(text), false);
    }
  }
  void finish() {
    write(stops_.finish(), false);
    end_section();
  }
  bool stopped() const { return stops_.stopped(); }

 private:
  void write(std::string_view text, bool dim) {
    if (text.empty()) return;
    if (open_ && dim != dim_) end_section();
    if (!open_ && dim) fmt::print("{}", dim_on());
    open_ = true;
    dim_ = dim;
    ends_line_ = text.ends_with('\n');
    print_text(text);
  }
  void end_section() {
    if (!open_) return;
    fmt::print("{}{}", dim_ ? dim_off() : "", ends_line_ ? "" : "\n");
    open_ = false;
  }

  bool show_reasoning_;
  StopStrings stops_;
  bool open_ = false, dim_ = false, ends_line_ = false;
};

}  // namespace

Chat::Chat(Session& session, std::shared_ptr<const Tokenizer> tokenizer,
           std::vector<int32_t> stop_tokens, ChatOptions options)
    : session_(session),
      encoding_(std::make_shared<harmony::HarmonyEncoding>(std::move(tokenizer))),
      stop_tokens_(std::move(stop_tokens)),
      options_(std::move(options)) {
  for (const int32_t token : encoding_->stop_tokens()) stop_tokens_.push_back(token);
  restart();
}

void Chat::restart() {
  conversation_ = harmony::begin_chat(options_.setup);
}

Generation Chat::ask(std::string_view text) {
  const size_t before = conversation_.messages.size();
  conversation_.messages.push_back(harmony::make_message(harmony::Role::kUser, std::string(text)));
  try {
    Generation total = answer();
    while (total.ended == Ended::stopped && conversation_.messages.back().is_tool_call()) {
      const harmony::Message call = conversation_.messages.back();
      fmt::print("{}calls {} with {}{}\n", dim_on(), *call.recipient, call.text(), dim_off());
      std::string result;
      if (!read_line("result> ", result) || CtrlC::pressed()) {
        total.ended = Ended::cancelled;
        break;
      }
      conversation_.messages.push_back(harmony::tool_result(call, result));
      const Generation next = answer();
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

Generation Chat::answer() {
  const std::vector<int32_t> prompt =
      encoding_->render_for_completion(conversation_, harmony::Analysis::kDropFinishedTurns);
  harmony::HarmonyParser parser(encoding_);
  AnswerPrinter printer(options_.show_reasoning, options_.stops);
  const auto show = [&](const std::string& text) {
    if (!parser.messages().empty()) printer.print(parser.messages().back().message, text);
  };
  const Generation result = generate(session_, prompt, options_.generate, [&](int32_t token) {
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
