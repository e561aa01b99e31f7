#include "text/chat/harmony/parser.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"

namespace mxgpt::harmony {

HarmonyParser::HarmonyParser(std::shared_ptr<const HarmonyEncoding> encoding, Mode mode)
    : encoding_(std::move(encoding)),
      mode_(mode),
      end_of_text_(encoding_->tokenizer()->token_to_id("<|endoftext|>")) {
  begin_header(Role::kAssistant);
}

std::string HarmonyParser::feed(text::TokenId token) {
  const bool first = std::exchange(at_first_token_, false);
  if (first && token == encoding_->control_tokens().start) state_ = State::kBetweenMessages;
  if (strict() && encoding_->tokenizer()->id_to_token(token).empty()) {
    throw Error("Harmony", fmt::format("token {} is not in the vocabulary", token));
  }
  switch (state_) {
    case State::kBetweenMessages:
      return feed_between_messages(token);
    case State::kHeader:
      return feed_header(token);
    case State::kContent:
      return feed_content(token);
  }
  return {};
}

std::string HarmonyParser::finish() {
  switch (std::exchange(state_, State::kBetweenMessages)) {
    case State::kBetweenMessages:
      return {};
    case State::kHeader:
      if (strict()) throw Error("Harmony", "the tokens end inside a message header");
      return close_header(MessageEnd::kTruncated);
    case State::kContent:
      return close_content(MessageEnd::kTruncated);
  }
  return {};
}

std::string HarmonyParser::feed_between_messages(text::TokenId token) {
  const ControlTokens& control = encoding_->control_tokens();
  if (token == control.start) {
    begin_header(std::nullopt);
    return {};
  }
  if (strict()) {
    throw Error("Harmony",
                fmt::format("expected <|start|> at the start of a message, got token {}", token));
  }
  if (message_end(token)) return {};
  if (!is_text(token) && token != control.channel && token != control.message) return {};
  begin_header(Role::kAssistant);
  return feed_header(token);
}

std::string HarmonyParser::feed_header(text::TokenId token) {
  const ControlTokens& control = encoding_->control_tokens();
  if (token == control.message) {
    header_.append(decoder_->finish());
    begin_content(strict() ? read_header(header_, implied_role_)
                           : read_header_tolerant(header_, implied_role_));
    return {};
  }
  const bool is_header_token =
      is_text(token) || token == control.channel || token == control.constrain;
  if (strict() && !is_header_token) {
    throw Error("Harmony", fmt::format("control token {} inside a message header", token));
  }
  if (token == control.start) {
    std::string text = close_header(MessageEnd::kNextMessage);
    begin_header(std::nullopt);
    return text;
  }
  if (const auto end = message_end(token)) return close_header(*end);
  if (is_header_token) append_to_header(token);
  if (header_.size() <= kMaxHeaderBytes) return {};

  if (strict())
    throw Error("Harmony", fmt::format("a message header exceeds {} bytes", kMaxHeaderBytes));
  // Keep the decoder: it may hold the first bytes of a character.
  Message message = read_unterminated_header(header_, implied_role_);
  messages_.push_back({std::move(message)});
  state_ = State::kContent;
  return messages_.back().message.text();
}

std::string HarmonyParser::feed_content(text::TokenId token) {
  const ControlTokens& control = encoding_->control_tokens();
  if (const auto end = message_end(token)) return close_content(*end);
  if (strict() || is_text(token)) return add_text(decoder_->push(token));
  if (token != control.start && token != control.channel) return {};
  std::string text = close_content(MessageEnd::kNextMessage);
  feed_between_messages(token);
  return text;
}

void HarmonyParser::begin_text() {
  decoder_.emplace(encoding_->tokenizer());
}

void HarmonyParser::begin_header(std::optional<Role> implied_role) {
  state_ = State::kHeader;
  header_ = {};
  implied_role_ = implied_role;
  begin_text();
}

void HarmonyParser::begin_content(Message message) {
  message.contents.emplace_back(std::string());
  messages_.push_back({std::move(message)});
  state_ = State::kContent;
  begin_text();
}

void HarmonyParser::append_to_header(text::TokenId token) {
  const ControlTokens& control = encoding_->control_tokens();
  if (is_text(token)) {
    header_.append(decoder_->push(token));
    return;
  }
  header_.append(decoder_->finish());
  header_.append(token == control.channel ? HeaderText::Marker::kChannel
                                          : HeaderText::Marker::kConstrain);
  begin_text();
}

std::string HarmonyParser::close_header(MessageEnd end) {
  state_ = State::kBetweenMessages;
  header_.append(decoder_->finish());
  Message message = read_unterminated_header(header_, implied_role_);
  std::string text = message.text();
  if (text.empty() && !message.channel && !message.recipient) return {};
  messages_.push_back({std::move(message), end});
  return text;
}

std::string HarmonyParser::close_content(MessageEnd end) {
  state_ = State::kBetweenMessages;
  std::string text = add_text(decoder_->finish());
  messages_.back().end = end;
  return text;
}

std::string HarmonyParser::add_text(std::string text) {
  std::get<std::string>(messages_.back().message.contents.front()) += text;
  return text;
}

std::optional<MessageEnd> HarmonyParser::message_end(text::TokenId token) const {
  const ControlTokens& control = encoding_->control_tokens();
  if (token == control.end) return MessageEnd::kEnd;
  if (token == control.return_) return MessageEnd::kReturn;
  if (token == control.call) return MessageEnd::kCall;
  if (!strict() && token == end_of_text_) return MessageEnd::kEnd;
  return std::nullopt;
}

bool HarmonyParser::is_text(text::TokenId token) const {
  const text::Tokenizer& tokenizer = *encoding_->tokenizer();
  return !tokenizer.is_special(token) && !tokenizer.id_to_token(token).empty();
}

}  // namespace mxgpt::harmony
