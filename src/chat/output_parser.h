// The tokens of a choice as what a client sees: reasoning, content, calls of tools.
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
  std::string text;             ///< of a call, the function's name; its arguments follow
  bool starts_message = false;  ///< the first of its message
  bool is_commentary = false;   ///< content that the model says before it calls a tool
};

class OutputParser {
 public:
  virtual ~OutputParser() = default;
  /// Appends what became certain with this token. Not called after it returned false: the choice
  /// has ended by what it says, whatever the model would add.
  virtual bool push(text::TokenId token, std::vector<OutputDelta>& out) = 0;
  /// No more tokens will come.
  virtual void finish(std::vector<OutputDelta>& out) = 0;
  /// Of what the last token was part; nothing: of the format around it.
  virtual std::optional<OutputDelta::Kind> current_kind() const = 0;
  /// The stop text that ended the choice; empty: none did.
  virtual std::string matched_stop() const = 0;
};

std::unique_ptr<OutputParser> make_harmony_parser(
    std::shared_ptr<const harmony::HarmonyEncoding> encoding, std::vector<std::string> stops);

/// Text without a format, or with reasoning between <think> and </think> in front.
struct PlainTextOptions {
  std::vector<std::string> stops;
  std::vector<text::TokenId> stop_tokens;  ///< are not part of the text
  bool skip_special = true;
  bool has_reasoning = false, starts_in_reasoning = false;
};
std::unique_ptr<OutputParser> make_plain_text_parser(
    std::shared_ptr<const text::Tokenizer> tokenizer, PlainTextOptions options);

}  // namespace mxgpt::chat
