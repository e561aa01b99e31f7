// Chat formats: how a conversation is rendered as the prompt text that a model was trained on.
// Harmony (gpt-oss) is in harmony/. All other formats put markers around each turn and are
// described by data.
//
// The Jinja chat template of a model is not executed. It is matched against a list of known
// templates; variations within one format (BOS, default system message, whitespace) are read from
// its text.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::text {

struct ChatMessage {
  enum class Role { kSystem, kUser, kAssistant };
  Role role;
  std::string content;
};

/// A chat format with markers around each turn, as plain data. Its output equals that of
/// `apply_chat_template(messages, add_generation_prompt=True)`.
struct ChatTemplateSpec {
  struct Turn {
    std::string open, close;
    bool trim = false;  ///< strip whitespace at both ends of the content
  };
  /// Position of the system message: a turn of its own, or prepended to a user message with an
  /// empty line between.
  enum class SystemPlacement { kOwnTurn, kInFirstUser, kInLastUser };

  std::string_view name;  ///< as in chat_format_names()
  std::string bos;        ///< text before the first turn; may be empty
  Turn system_turn, user_turn, assistant_turn;
  SystemPlacement system_placement = SystemPlacement::kOwnTurn;
  /// Text at the start of the system turn; if not empty, the turn is always rendered.
  std::string system_preamble;
  std::string default_system;      ///< if the conversation has none; empty: no turn
  std::string generation_prompt;   ///< after the last message: opens the assistant's turn
  std::string no_thinking_suffix;  ///< appended to generation_prompt to disable reasoning;
                                   ///< empty: not supported
  /// Responses begin with <think>…</think>, which is removed from earlier turns of the prompt.
  bool has_reasoning = false;
  bool prompt_opens_reasoning = false;      ///< generation_prompt ends in <think>
  std::string end_of_turn;                  ///< the token that ends a response
  std::vector<std::string> control_tokens;  ///< special tokens that the vocabulary must have

  /// Renders an optional system message followed by alternating user and assistant messages, the
  /// user's last. Throws Error for any other order.
  std::vector<TextPart> render(std::span<const ChatMessage> messages, bool thinking = true) const;

  /// The id of end_of_turn. Throws Error if the tokenizer lacks a control token of the format or
  /// does not mark it as special, in which case users could forge it.
  TokenId end_of_turn_id(const Tokenizer& tokenizer) const;
};

/// Names of all chat formats.
std::vector<std::string> chat_format_names();

inline constexpr std::string_view kHarmonyFormat = "harmony";

/// The chat format that a template renders; nothing if the template is not known.
std::optional<std::string_view> detect_chat_format(std::string_view text);

/// The chat format of a model: that of its template or, without a template, Harmony if the
/// vocabulary has the Harmony control tokens. Nothing if neither applies.
std::optional<std::string_view> detect_chat_format(
    const ChatTemplate& chat_template, const std::function<bool(std::string_view)>& has_token);

/// The specification of the named format, which must not be Harmony. Details come from
/// `chat_template` if it renders this format, else from the format's defaults. `today` is an ISO
/// date ("2026-11-23") for formats that tell the model the date.
ChatTemplateSpec chat_template_spec(std::string_view name, const ChatTemplate& chat_template,
                                    std::string_view today);

/// Up to six control tokens that an unknown template mentions, for an error message:
/// "<|im_start|>, <|im_sep|>".
std::string control_tokens_in(std::string_view chat_template);

}  // namespace mxgpt::text
