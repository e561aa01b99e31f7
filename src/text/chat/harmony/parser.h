// Parses Harmony tokens into messages, one token at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/chat/harmony/encoding.h"
#include "text/chat/harmony/header.h"

namespace mxgpt::harmony {

/// How a message ended.
enum class MessageEnd {
  kOpen,         ///< not ended: content is still arriving
  kEnd,          ///< <|end|>
  kReturn,       ///< <|return|>
  kCall,         ///< <|call|>
  kNextMessage,  ///< the next header (tolerant mode only)
  kTruncated,    ///< end of the token stream
};

struct ParsedMessage {
  Message message;  ///< contents holds exactly one text
  MessageEnd end = MessageEnd::kOpen;

  bool complete() const { return end != MessageEnd::kOpen && end != MessageEnd::kTruncated; }
};

/// The token stream continues a prompt that ended in `<|start|>assistant`, or begins with
/// `<|start|>`.
///
/// Strict mode throws Error for any deviation from the format, as openai-harmony does: a message
/// without `<|start|>`, an unknown role, an empty or second channel, extra words, a header without
/// `<|message|>`, an id outside the vocabulary. Control tokens inside content are text. After an
/// Error the messages so far remain readable, but feed() must not be called again.
///
/// Tolerant mode never throws and loses no message. Its rules:
///  1. `<|start|>` always opens a header. So does `<|channel|>` in content and between messages,
///     and any text between messages; such a header defaults to the assistant's role. The
///     interrupted message ends there.
///  2. End tokens between messages are ignored.
///  3. The last channel that begins with name characters counts, cut after them ("commentary?" is
///     commentary). The recipient is the word after "to=", or a word with an inner dot. Another
///     name-like word is the content type. Without a known role, a tool's name makes it a tool
///     message, any other word an assistant message.
///  4. A header without `<|message|>`, or longer than kMaxHeaderBytes, is parsed by
///     read_unterminated_header(). Its remaining text is the content, so a refusal without a
///     channel is an ordinary message. A header without channel, recipient and text yields no
///     message.
///  5. Other control tokens and unknown ids are dropped. `<|endoftext|>` acts as `<|end|>`.
/// All messages it returns can be rendered again.
class HarmonyParser {
 public:
  enum class Mode { kStrict, kTolerant };
  static constexpr size_t kMaxHeaderBytes = 2048;

  explicit HarmonyParser(std::shared_ptr<const HarmonyEncoding> encoding,
                         Mode mode = Mode::kTolerant);

  /// Returns the text that the token adds to messages().back(): whole characters, often empty.
  std::string feed(text::TokenId token);
  /// Ends the stream; returns text as feed() does. An unfinished message becomes truncated. Strict
  /// mode throws Error if the stream ends inside a header.
  std::string finish();

  /// All messages with a complete header, in order; the last may be open.
  const std::vector<ParsedMessage>& messages() const { return messages_; }
  /// The message whose content is arriving; null between messages and in headers. Valid until the
  /// next call of feed() or finish().
  const ParsedMessage* open_message() const {
    return state_ == State::kContent ? &messages_.back() : nullptr;
  }

 private:
  enum class State { kBetweenMessages, kHeader, kContent };

  std::string feed_between_messages(text::TokenId token);
  std::string feed_header(text::TokenId token);
  std::string feed_content(text::TokenId token);
  void begin_text();
  void begin_header(std::optional<Role> implied_role);
  void begin_content(Message message);
  void append_to_header(text::TokenId token);
  std::string close_header(MessageEnd end);
  std::string close_content(MessageEnd end);
  std::string add_text(std::string text);
  std::optional<MessageEnd> message_end(text::TokenId token) const;
  bool is_text(text::TokenId token) const;
  bool strict() const { return mode_ == Mode::kStrict; }

  std::shared_ptr<const HarmonyEncoding> encoding_;
  Mode mode_;
  std::optional<text::TokenId> end_of_text_;
  State state_ = State::kBetweenMessages;
  HeaderText header_;
  std::optional<Role> implied_role_;  // for a header without a role
  bool at_first_token_ = true;
  // Decodes the current run of text, in a header or in content. Always set.
  std::optional<text::StreamDecoder> decoder_;
  std::vector<ParsedMessage> messages_;
};

}  // namespace mxgpt::harmony
