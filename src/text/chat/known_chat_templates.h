// Chat formats: how a conversation becomes the text that a model was trained on. Harmony, the one
// of gpt-oss, has a folder of its own; all others are turns between markers, and are data here.
//
// A model's files carry a chat template, a program in Jinja. It is not run: what it writes is known
// for the templates of the list, and what one of them leaves open (whether it begins with BOS, the
// system message it puts where there is none) is read from its text.
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

/// Turns, each between what opens and closes it. Plain data; what it renders equals what the
/// template renders with `apply_chat_template(messages, add_generation_prompt=True)`.
struct ChatTemplateSpec {
  struct Turn {
    std::string open, close;
    bool trim = false;  ///< blanks at both ends of the content are dropped
  };
  /// Where the system message goes. Without a turn of its own it stands before a user's message,
  /// with an empty line between.
  enum class SystemPlacement { kOwnTurn, kInFirstUser, kInLastUser };

  std::string_view name;  ///< as in chat_format_names()
  std::string bos;        ///< in front of everything; empty: nothing
  Turn system_turn, user_turn, assistant_turn;
  SystemPlacement system_placement = SystemPlacement::kOwnTurn;
  /// Begins the system turn, which is then there whether the conversation has one or not.
  std::string system_preamble;
  std::string default_system;      ///< where the conversation has none; empty: no turn
  std::string generation_prompt;   ///< after the last message, for the assistant to speak
  std::string no_thinking_suffix;  ///< appended to `prompt`, it keeps the model from reasoning;
                                   ///< empty: there is no such switch
  /// Answers begin with <think>…</think>, which is dropped when the next question is asked.
  bool has_reasoning = false;
  bool prompt_opens_reasoning = false;      ///< `prompt` ends in <think>, so answers lack it
  std::string end_of_turn;                  ///< the token that ends an answer
  std::vector<std::string> control_tokens;  ///< the tokens that a vocabulary must have

  /// An optional system message, then user and assistant by turns, the user last; throws Error for
  /// any other order.
  std::vector<TextPart> render(std::span<const ChatMessage> messages, bool thinking = true) const;

  /// The token that ends an answer. Throws Error if the tokenizer lacks a control token of the
  /// format, or takes it for ordinary text, which users could then forge.
  TokenId end_of_turn_id(const Tokenizer& tokenizer) const;
};

/// All names, in the order of the list.
std::vector<std::string> chat_format_names();

inline constexpr std::string_view kHarmonyFormat = "harmony";

/// The name of the format that a template's text renders, or nothing if it is none of the known.
std::optional<std::string_view> detect_chat_format(std::string_view text);

/// The name of the format that a model speaks: its template's or, where the files have none,
/// Harmony if the vocabulary has its control tokens. Nothing if neither tells.
std::optional<std::string_view> detect_chat_format(
    const ChatTemplate& chat_template, const std::function<bool(std::string_view)>& has_token);

/// The format of this name, which is not kHarmonyFormat: as the template has it if that is one of
/// the format, as the format usually is if not. `today`, "2026-11-23", is for templates that tell
/// the model the date.
ChatTemplateSpec chat_template_spec(std::string_view name, const ChatTemplate& chat_template,
                                    std::string_view today);

/// The control tokens that a template mentions, at most a few, for a message about one that is not
/// known: "<|im_start|>, <|im_sep|>".
std::string control_tokens_in(std::string_view chat_template);

}  // namespace mxgpt::text
