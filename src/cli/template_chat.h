// A conversation in turns between markers: ChatML and its like.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "cli/chat_session.h"
#include "text/chat/known_chat_templates.h"

namespace mxgpt::cli {

class TemplateChat : public ChatSession {
 public:
  /// Throws Error if the tokenizer lacks the format's control tokens.
  TemplateChat(text::ChatTemplateSpec format, std::shared_ptr<const text::Tokenizer> tokenizer,
               std::vector<int32_t> stop_tokens, ChatOptions options);

  engine::GenerationResult ask(engine::Engine& engine, std::string_view text) override;
  void reset() override;

 private:
  text::ChatTemplateSpec format_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::vector<int32_t> stop_tokens_;
  ChatOptions options_;
  std::vector<text::ChatMessage>
      messages_;  ///< answers with their reasoning, as the model gave them
};

}  // namespace mxgpt::cli
