// Renders conversations to tokens in Harmony, the chat format of gpt-oss.
//
//   <|start|>{role}[:{name}][ to={recipient}][<|channel|>{channel}][ {content
//   type}]<|message|>{content}<|end|>
//
// <|call|> ends an assistant's message to a tool; <|return|> ends the last response in training
// data. The tokens equal those of the openai-harmony library. Only this renderer emits control
// tokens: content is encoded as plain text, and ambiguous header fields are rejected.
#pragma once

#include <array>
#include <memory>
#include <string_view>
#include <vector>

#include "text/chat/harmony/conversation.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::harmony {

/// Which reasoning messages (channel "analysis") of the assistant are rendered.
enum class AnalysisPolicy {
  kKeep,
  /// The default of openai-harmony: if the assistant's last message is final, drops the reasoning
  /// before the first final message.
  kDropBeforeFirstFinal,
  /// The rule of the format's documentation: drops the reasoning of every turn that ended in a
  /// final message, keeps that of a turn still calling tools. Growing the conversation never
  /// restores dropped reasoning, so the cached prefix stays valid between tool calls.
  kDropFinishedTurns,
};

struct ControlTokens {
  text::TokenId start, message, end, return_, call, channel, constrain;
};

/// Renders conversations with one tokenizer, which it co-owns. Immutable.
class HarmonyEncoding {
 public:
  /// Throws Error if the tokenizer lacks a Harmony control token or does not mark it as special.
  explicit HarmonyEncoding(std::shared_ptr<const text::Tokenizer> tokenizer);

  /// The render functions throw Error, naming message and field, for a header field that cannot be
  /// rendered safely, system or developer content under another role, a tool message without a
  /// name, or a schema nested too deeply.
  ///
  /// A prompt for generation; ends in `<|start|>assistant`.
  std::vector<text::TokenId> render_for_completion(
      const Conversation& conversation,
      AnalysisPolicy analysis = AnalysisPolicy::kDropBeforeFirstFinal) const;
  /// Training text: if the last message is final, it ends in `<|return|>`.
  std::vector<text::TokenId> render_for_training(
      const Conversation& conversation,
      AnalysisPolicy analysis = AnalysisPolicy::kDropBeforeFirstFinal) const;

  const ControlTokens& control_tokens() const { return control_tokens_; }
  /// Tokens that end generation: `<|return|>` (end of response) and `<|call|>` (tool call).
  std::array<text::TokenId, 2> stop_tokens() const {
    return {control_tokens_.return_, control_tokens_.call};
  }
  const std::shared_ptr<const text::Tokenizer>& tokenizer() const { return tokenizer_; }

 private:
  std::vector<text::TokenId> render(const Conversation& conversation,
                                    AnalysisPolicy analysis) const;
  void render_message(const Message& message, bool has_functions, const std::string& where,
                      std::vector<text::TokenId>& out) const;
  void append_text(std::string_view text, std::vector<text::TokenId>& out) const;

  std::shared_ptr<const text::Tokenizer> tokenizer_;
  ControlTokens control_tokens_;
};

}  // namespace mxgpt::harmony
