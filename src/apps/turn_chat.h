// A conversation in turns between markers: ChatML and its like.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "apps/chat.h"
#include "text/chat_format.h"

namespace mxgpt::apps {

class TurnChat : public Chat {
 public:
  /// Throws Error if the tokenizer lacks the format's control tokens.
  TurnChat(TurnFormat format, std::shared_ptr<const Tokenizer> tokenizer,
           std::vector<int32_t> stop_tokens, ChatOptions options);

  Generation ask(Engine& engine, std::string_view text) override;
  void restart() override;

 private:
  TurnFormat format_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<int32_t> stop_tokens_;
  ChatOptions options_;
  std::vector<ChatMessage> messages_;  ///< answers with their reasoning, as the model gave them
};

}  // namespace mxgpt::apps
