// The tokens of a choice as what a client sees: reasoning, content, calls of tools.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/chat_format.h"
#include "text/harmony/parser.h"
#include "text/stop_strings.h"
#include "text/thinking.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::server {

struct Piece {
  enum class Kind { reasoning, content, call, arguments };
  Kind kind;
  std::string text;       ///< of a call, the function's name; its arguments follow
  bool begins = false;    ///< the first of its message
  bool preamble = false;  ///< content that the model says before it calls a tool
};

class ChoiceReader {
 public:
  virtual ~ChoiceReader() = default;
  /// Appends what became certain with this token. Not called after it returned false: the choice
  /// has ended by what it says, whatever the model would add.
  virtual bool push(TokenId token, std::vector<Piece>& out) = 0;
  /// No more tokens will come.
  virtual void finish(std::vector<Piece>& out) = 0;
  /// Of what the last token was part; nothing: of the format around it.
  virtual std::optional<Piece::Kind> part() const = 0;
  /// The stop text that ended the choice; empty: none did.
  virtual std::string stopped_by() const = 0;
};

std::unique_ptr<ChoiceReader> read_harmony(std::shared_ptr<const harmony::HarmonyEncoding> encoding,
                                           std::vector<std::string> stops);

/// Text without a format, or with reasoning between <think> and </think> in front.
struct PlainReading {
  std::vector<std::string> stops;
  std::vector<TokenId> stop_tokens;  ///< are not part of the text
  bool skip_special = true;
  bool thinks = false, opened_thinking = false;
};
std::unique_ptr<ChoiceReader> read_plain(std::shared_ptr<const Tokenizer> tokenizer,
                                         PlainReading options);

}  // namespace mxgpt::server
