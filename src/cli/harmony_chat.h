// A conversation in Harmony, the format of gpt-oss.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "cli/chat_session.h"
#include "text/chat/harmony/encoding.h"

namespace mxgpt::cli {

class HarmonyChat : public ChatSession {
 public:
  /// Throws Error if the tokenizer is not that of gpt-oss.
  HarmonyChat(std::shared_ptr<const text::Tokenizer> tokenizer, std::vector<int32_t> stop_tokens,
              ChatOptions options);

  engine::GenerationResult ask(engine::Engine& engine, std::string_view text) override;
  void reset() override;

 private:
  /// One run of the model, up to a final answer or a call.
  engine::GenerationResult run_turn(engine::Engine& engine);

  std::shared_ptr<const harmony::HarmonyEncoding> encoding_;
  std::vector<int32_t> stop_tokens_;
  ChatOptions options_;
  harmony::Conversation conversation_;
};

}  // namespace mxgpt::cli
