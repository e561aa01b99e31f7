// Harmony tokens to messages, one token at a time, as the model emits them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/chat/harmony/encoding.h"
#include "text/chat/harmony/header.h"

namespace mxgpt::harmony {

/// What ended a message.
enum class MessageEnd {
  kOpen,         ///< nothing yet: its content is still coming
  kEnd,          ///< <|end|>
  kReturn,       ///< <|return|>
  kCall,         ///< <|call|>
  kNextMessage,  ///< the header of the next one (tolerant mode only)
  kTruncated,    ///< the tokens ran out
};

struct ParsedMessage {
  Message message;  ///< contents is exactly one text
  MessageEnd end = MessageEnd::kOpen;

  bool complete() const { return end != MessageEnd::kOpen && end != MessageEnd::kTruncated; }
};

/// The tokens either continue a prompt that ended in `<|start|>assistant`, or begin with
/// `<|start|>` themselves.
///
/// Strict mode throws Error for whatever departs from the format, as openai-harmony does: a message
/// that does not begin with `<|start|>`, an unknown role, an empty or second channel, superfluous
/// words, a header without its `<|message|>`, an id outside the vocabulary. Control tokens inside
/// content are text. After an Error the messages so far remain readable; feed no more.
///
/// Tolerant mode throws nothing and forgets no message. Its rules:
///  1. `<|start|>` opens a header wherever it stands. So does `<|channel|>` in content and between
///     messages, and any text between messages; that header is an assistant's unless it says
///     otherwise. A message that they interrupt ends there.
///  2. End tokens between messages mean nothing.
///  3. In a header the last channel that begins like a name counts, cut to the characters of names
///     ("commentary?" is commentary). The recipient is the word after "to=", or one with a point
///     in it; another name-like word is the content type. Where the role is unknown, a tool's name
///     makes it a tool's message, anything else the assistant's.
///  4. A header without its `<|message|>`, or longer than kMaxHeaderBytes, is read by
///     read_unended_header: what is left of it is the message's text, so a refusal without any
///     channel is an ordinary message. Without channel, recipient and text it is no message.
///  5. Other control tokens and unknown ids are dropped; `<|endoftext|>` ends a message as
///     `<|end|>` does.
/// Whatever it returns can be rendered again.
class HarmonyParser {
 public:
  enum class Mode { kStrict, kTolerant };
  static constexpr size_t kMaxHeaderBytes = 2048;

  explicit HarmonyParser(std::shared_ptr<const HarmonyEncoding> encoding,
                         Mode mode = Mode::kTolerant);

  /// Returns the text that the token added to messages().back(), in whole characters; often empty.
  std::string feed(text::TokenId token);
  /// No more tokens will come: returns as feed does. What is unfinished becomes a truncated
  /// message; strict mode throws Error inside a header.
  std::string finish();

  /// All messages whose header was read, in order; the last one may be open.
  const std::vector<ParsedMessage>& messages() const { return messages_; }
  /// The message whose content is coming, or null between messages and in headers. Valid until the
  /// next call of feed or finish.
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
  std::optional<Role> implied_role_;  // of a header that does not name its role
  bool at_first_token_ = true;
  // Of the text run being read, in a header or in content; never empty.
  std::optional<text::StreamDecoder> decoder_;
  std::vector<ParsedMessage> messages_;
};

}  // namespace mxgpt::harmony
