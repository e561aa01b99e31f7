#include "apps/turn_chat.h"

#include <algorithm>
#include <utility>

#include "apps/answer_printer.h"
#include "text/thinking.h"

namespace mxgpt::apps {

using Role = ChatMessage::Role;

TurnChat::TurnChat(TurnFormat format, std::shared_ptr<const Tokenizer> tokenizer,
                   std::vector<int32_t> stop_tokens, ChatOptions options)
    : format_(std::move(format)),
      tokenizer_(std::move(tokenizer)),
      stop_tokens_(std::move(stop_tokens)),
      options_(std::move(options)) {
  stop_tokens_.push_back(format_.check(*tokenizer_));
  options_.generate.stop_tokens = stop_tokens_;
  TurnChat::restart();
}

void TurnChat::restart() {
  messages_.clear();
  if (options_.system) messages_.push_back({Role::kSystem, *options_.system});
}

Generation TurnChat::ask(Engine& engine, std::string_view text) {
  messages_.push_back({Role::kUser, std::string(text)});
  try {
    const std::vector<int32_t> prompt =
        tokenizer_->encode(format_.render(messages_, !options_.no_thinking));
    AnswerPrinter printer(options_.show_reasoning, options_.stops);
    StreamDecoder decoder(tokenizer_, true);
    ThinkingSplitter splitter(format_.prompt_opens_thinking);
    std::string said;
    const auto show = [&](const ThinkingSplitter::Piece& piece) {
      printer.reasoning(piece.thinking);
      printer.answer(piece.answer);
    };
    const auto hear = [&](const std::string& piece) {
      said += piece;
      format_.thinks ? show(splitter.push(piece)) : printer.answer(piece);
    };
    const Generation result = generate(engine, prompt, options_.generate, [&](int32_t token) {
      if (std::find(stop_tokens_.begin(), stop_tokens_.end(), token) != stop_tokens_.end())
        return false;
      hear(decoder.push(token));
      return !printer.stopped();
    });
    hear(decoder.finish());
    show(splitter.finish());
    printer.finish();
    messages_.push_back({Role::kAssistant, std::move(said)});
    return result;
  } catch (...) {
    messages_.pop_back();  // the conversation can go on as if this had not been asked
    throw;
  }
}

}  // namespace mxgpt::apps
