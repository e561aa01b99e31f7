// Harmony, the chat format of gpt-oss: conversations to tokens.
//
//   <|start|>{role}[:{name}][ to={recipient}][<|channel|>{channel}][ {content
//   type}]<|message|>{content}<|end|>
//
// where <|call|> ends an assistant's message to a tool and <|return|> the last answer in training.
// The tokens equal those of the openai-harmony library. Only this renderer places control tokens:
// content is encoded as plain text, and header fields that could be taken for something else are
// refused.
#pragma once

#include <array>
#include <memory>
#include <string_view>
#include <vector>

#include "text/chat/harmony/conversation.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::harmony {

/// Which of the assistant's reasoning (channel "analysis") is rendered.
enum class AnalysisPolicy {
  kKeep,
  /// As openai-harmony does by default: once the assistant's last message is final, the reasoning
  /// before the conversation's first final message goes.
  kDropBeforeFirstFinal,
  /// As the format's documentation asks: the reasoning of every turn that has ended in a final
  /// message goes, that of a turn still calling tools stays. What is dropped stays dropped when the
  /// conversation grows, so a prompt cache keeps its prefix from one tool call to the next.
  kDropFinishedTurns,
};

struct ControlTokens {
  text::TokenId start, message, end, return_, call, channel, constrain;
};

/// The format over one tokenizer. Immutable; shares ownership of the tokenizer.
class HarmonyEncoding {
 public:
  /// Throws Error if the tokenizer lacks a Harmony control token or does not treat it as special.
  explicit HarmonyEncoding(std::shared_ptr<const text::Tokenizer> tokenizer);

  /// These throw Error for a header field that cannot be rendered safely, system or developer
  /// content under another role, a tool message without a name, or a schema nested too deeply,
  /// naming message and field.
  ///
  /// For the model to go on: ends in `<|start|>assistant`.
  std::vector<text::TokenId> render_for_completion(
      const Conversation& conversation,
      AnalysisPolicy analysis = AnalysisPolicy::kDropBeforeFirstFinal) const;
  /// For training: a last message that is final ends in `<|return|>`.
  std::vector<text::TokenId> render_for_training(
      const Conversation& conversation,
      AnalysisPolicy analysis = AnalysisPolicy::kDropBeforeFirstFinal) const;

  const ControlTokens& control_tokens() const { return control_tokens_; }
  /// Tokens after which the assistant waits: for the user (`<|return|>`) or for a tool
  /// (`<|call|>`).
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
