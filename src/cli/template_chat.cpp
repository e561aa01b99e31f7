#include "cli/template_chat.h"

#include <algorithm>
#include <utility>

#include "cli/stream_printer.h"
#include "text/chat/reasoning_parser.h"

namespace mxgpt::cli {

using Role = text::ChatMessage::Role;

TemplateChat::TemplateChat(text::ChatTemplateSpec format,
                           std::shared_ptr<const text::Tokenizer> tokenizer,
                           std::vector<int32_t> stop_tokens, ChatOptions options)
    : format_(std::move(format)),
      tokenizer_(std::move(tokenizer)),
      stop_tokens_(std::move(stop_tokens)),
      options_(std::move(options)) {
  stop_tokens_.push_back(format_.end_of_turn_id(*tokenizer_));
  options_.generate.stop_tokens = stop_tokens_;
  TemplateChat::reset();
}

void TemplateChat::reset() {
  messages_.clear();
  if (options_.system) messages_.push_back({Role::kSystem, *options_.system});
}

engine::GenerationResult TemplateChat::ask(engine::Engine& engine, std::string_view text) {
  messages_.push_back({Role::kUser, std::string(text)});
  try {
    const std::vector<int32_t> prompt =
        tokenizer_->encode(format_.render(messages_, !options_.no_thinking));
    StreamPrinter printer(options_.show_reasoning, options_.stops);
    text::StreamDecoder decoder(tokenizer_, true);
    text::ReasoningParser splitter(format_.prompt_opens_reasoning);
    std::string said;
    const auto show = [&](const text::ReasoningParser::Delta& piece) {
      printer.reasoning(piece.reasoning);
      printer.content(piece.content);
    };
    const auto hear = [&](const std::string& piece) {
      said += piece;
      format_.has_reasoning ? show(splitter.push(piece)) : printer.content(piece);
    };
    const engine::GenerationResult result =
        engine::generate(engine, prompt, options_.generate, [&](int32_t token) {
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

}  // namespace mxgpt::cli
