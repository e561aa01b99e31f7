// A conversation in Harmony, the format of gpt-oss.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "apps/chat.h"
#include "text/harmony/encoding.h"

namespace mxgpt::apps {

class HarmonyChat : public Chat {
 public:
  /// Throws Error if the tokenizer is not that of gpt-oss.
  HarmonyChat(std::shared_ptr<const Tokenizer> tokenizer, std::vector<int32_t> stop_tokens,
              ChatOptions options);

  Generation ask(Engine& engine, std::string_view text) override;
  void restart() override;

 private:
  /// One run of the model, up to a final answer or a call.
  Generation answer(Engine& engine);

  std::shared_ptr<const harmony::HarmonyEncoding> encoding_;
  std::vector<int32_t> stop_tokens_;
  ChatOptions options_;
  harmony::Conversation conversation_;
};

}  // namespace mxgpt::apps
