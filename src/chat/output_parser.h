// Parses the tokens of a choice into what a client sees: reasoning, content and tool calls.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/chat/harmony/parser.h"
#include "text/chat/known_chat_templates.h"
#include "text/chat/reasoning_parser.h"
#include "text/stop_strings.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::chat {

struct OutputDelta {
  enum class Kind { reasoning, content, tool_call, arguments };
  Kind kind;
  std::string text;             ///< for tool_call, the function's name; its arguments follow
  bool starts_message = false;  ///< the first delta of its message
  bool is_commentary = false;   ///< content that precedes a tool call
};

class OutputParser {
 public:
  virtual ~OutputParser() = default;
  /// Appends the deltas that this token completes. False if the choice has ended by its own text,
  /// such as a final message or a stop string; not called after that.
  virtual bool push(text::TokenId token, std::vector<OutputDelta>& out) = 0;
  /// No more tokens follow: appends what is left.
  virtual void finish(std::vector<OutputDelta>& out) = 0;
  /// The kind that the last token belongs to; nullopt for the format around messages.
  virtual std::optional<OutputDelta::Kind> current_kind() const = 0;
  /// The stop string that ended the choice; empty if none did.
  virtual std::string matched_stop() const = 0;
};

/// `stops` apply to content only. A header that the token budget cuts off gives no delta.
std::unique_ptr<OutputParser> make_harmony_parser(
    std::shared_ptr<const harmony::HarmonyEncoding> encoding, std::vector<std::string> stops);

/// Text without headers, optionally with reasoning between <think> and </think> at its start.
struct PlainTextOptions {
  std::vector<std::string> stops;
  std::vector<text::TokenId> stop_tokens;  ///< end the choice; not part of the text
  bool skip_special = true;                ///< leave out other control tokens
  bool has_reasoning = false;
  bool starts_in_reasoning = false;  ///< the prompt has the <think> already
};
std::unique_ptr<OutputParser> make_plain_text_parser(
    std::shared_ptr<const text::Tokenizer> tokenizer, PlainTextOptions options);

}  // namespace mxgpt::chat
