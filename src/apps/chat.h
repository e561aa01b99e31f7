// A conversation at the terminal, in Harmony.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate.h"
#include "engine/session.h"
#include "text/harmony/chat.h"
#include "text/harmony/parser.h"

namespace mxgpt::apps {

struct ChatOptions {
  harmony::ChatSetup setup;
  GenerateOptions generate;
  std::vector<std::string> stops;
  bool show_reasoning = false;
};

/// Keeps the conversation; the session keeps its tokens between turns.
class Chat {
 public:
  Chat(Session& session, std::shared_ptr<const Tokenizer> tokenizer,
       std::vector<int32_t> stop_tokens, ChatOptions options);

  /// One turn: the user's text goes in, the answer is printed as it comes. Calls of tools are
  /// printed, and their results read from standard input, until the answer is final. Counts of the
  /// whole turn come back.
  Generation ask(std::string_view text);

  /// Forgets everything said.
  void restart();

 private:
  /// One run of the model, up to a final answer or a call.
  Generation answer();

  Session& session_;
  std::shared_ptr<const harmony::HarmonyEncoding> encoding_;
  std::vector<int32_t> stop_tokens_;
  ChatOptions options_;
  harmony::Conversation conversation_;
};

}  // namespace mxgpt::apps
