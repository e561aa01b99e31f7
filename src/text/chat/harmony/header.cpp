#include "text/chat/harmony/header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/escape.h"

namespace mxgpt::harmony {
namespace {

using Marker = HeaderText::Marker;

constexpr std::string_view kWhitespace = " \t\n\v\f\r";
constexpr std::string_view kRecipientPrefix = "to=";
constexpr std::array<std::string_view, 3> kKnownChannels = {"analysis", "commentary", "final"};

[[noreturn]] void fail(const std::string& problem) {
  throw Error("message header", problem);
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  while (true) {
    const size_t begin = text.find_first_not_of(kWhitespace);
    if (begin == std::string_view::npos) return words;
    const size_t end = std::min(text.find_first_of(kWhitespace, begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    text.remove_prefix(end);
  }
}

// The longest prefix of name characters. If not empty, it is a header word.
std::string_view leading_name(std::string_view text) {
  text = text.substr(0, kMaxHeaderWordBytes);
  const auto end = std::find_if_not(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_-.:/+").find(c) != std::string_view::npos;
  });
  return text.substr(0, static_cast<size_t>(end - text.begin()));
}

// A name with an inner dot, such as "functions.f".
bool is_qualified_name(std::string_view word) {
  const size_t dot = word.find('.');
  return leading_name(word) == word && dot > 0 && dot < word.size() - 1;
}

// Removes `prefix` from the front of `text`, if present.
bool consume_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

std::string_view consume_name(std::string_view& text) {
  const std::string_view name = leading_name(text);
  text.remove_prefix(name.size());
  return name;
}

void skip_whitespace(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(kWhitespace), text.size()));
}

// Reads "user", or "user:name" for a named author.
bool read_role(std::string_view word, Message& message) {
  const size_t colon = word.find(':');
  const auto role = role_from_name(word.substr(0, colon));
  if (!role) return false;
  std::optional<std::string_view> name;
  if (colon != std::string_view::npos) {
    name = word.substr(colon + 1);
    if (*role == Role::kTool || !is_header_word(*name)) return false;
  } else if (*role == Role::kTool) {
    name = word;  // tool messages always have a name; openai-harmony uses the word itself
  }
  message.role = *role;
  message.name = name;
  return true;
}

// One channel value per channel marker, and the remaining text.
struct HeaderFields {
  std::vector<std::string> channels;
  std::string text;
};

HeaderFields extract_channels(const HeaderText& header) {
  HeaderFields out;
  for (const auto& [marker, text] : header.segments()) {
    size_t begin = 0;
    if (marker == Marker::kChannel) {
      begin = std::min(text.find_first_of(" \t\n\v\f\r<"), text.size());
      out.channels.push_back(text.substr(0, begin));
    } else if (marker == Marker::kConstrain) {
      // A content type is a separate word even without whitespace before it:
      // "to=f<|constrain|>json".
      out.text += " ";
      out.text += kConstrainMarker;
    }
    out.text += std::string_view(text).substr(begin);
  }
  return out;
}

// Reads recipient and content type from the words after the role, as openai-harmony does. The last
// word is the recipient if it begins with "to=" or is the only one. Otherwise it is the content
// type, and the word before it is the recipient.
void read_recipient_and_type(const std::vector<std::string_view>& words, Message& message) {
  if (words.size() > 2 || (words.size() == 2 && words.back().starts_with(kRecipientPrefix))) {
    fail(fmt::format("has unexpected words at '{}'", escape_for_terminal(words.front())));
  }
  if (words.empty()) return;
  std::string_view recipient = words.front();
  if (recipient.starts_with(kRecipientPrefix)) recipient.remove_prefix(kRecipientPrefix.size());
  if (!is_header_word(recipient) && !(is_content_type(recipient) && words.size() == 1)) {
    fail(fmt::format("'{}' is not a recipient", escape_for_terminal(recipient)));
  }
  message.recipient = recipient;
  if (words.size() == 2) {
    if (!is_content_type(words.back()))
      fail(fmt::format("'{}' is not a content type", escape_for_terminal(words.back())));
    message.content_type = words.back();
  }
}

void consume_role(std::string_view& text, std::optional<Role> implied_role, Message& message) {
  std::string_view rest = text;
  skip_whitespace(rest);
  const std::string_view word = rest.substr(0, rest.find_first_of(kWhitespace));
  Message author;
  if (!read_role(word, author) || (implied_role && author.role != *implied_role)) return;
  message.role = author.role;
  message.name = author.name;
  text = rest.substr(word.size());
}

// "finally, it ends" is text; "finalSure" and "final Sure" are a channel followed by text.
void consume_known_channel(std::string_view& text, Message& message) {
  for (const std::string_view channel : kKnownChannels) {
    std::string_view rest = text;
    if (!consume_prefix(rest, channel) ||
        (!rest.empty() && rest.front() >= 'a' && rest.front() <= 'z'))
      continue;
    message.channel = channel;
    text = rest;
    return;
  }
}

// Reads "to=functions.f" and a content type without a marker after it.
void consume_recipient(std::string_view& text, Message& message) {
  if (!consume_prefix(text, kRecipientPrefix)) return;
  const std::string_view recipient = consume_name(text);
  if (!recipient.empty()) message.recipient = recipient;
  skip_whitespace(text);
  const std::string_view type = leading_name(text);
  if (type != "json" && type != "code") return;
  message.content_type = consume_name(text);
  skip_whitespace(text);
}

}  // namespace

bool is_header_word(std::string_view word) {
  return !word.empty() && word.size() <= kMaxHeaderWordBytes &&
         word.find("<|") == std::string_view::npos && !word.starts_with(kRecipientPrefix) &&
         std::none_of(word.begin(), word.end(),
                      [](unsigned char c) { return c <= ' ' || c == 0x7f; });
}

bool is_tool_name(std::string_view name) {
  const auto role = role_from_name(name.substr(0, name.find(':')));
  return is_header_word(name) && (!role || *role == Role::kTool);
}

bool is_content_type(std::string_view type) {
  if (!type.starts_with(kConstrainMarker)) return is_header_word(type);
  type.remove_prefix(kConstrainMarker.size());
  return type.empty() || is_header_word(type);
}

void HeaderText::append(std::string_view text) {
  segments_.back().text += text;
  size_ += text.size();
}

void HeaderText::append(Marker marker) {
  segments_.push_back({marker, {}});
  size_ += kConstrainMarker.size();
}

Message read_header(const HeaderText& header, std::optional<Role> implied_role) {
  const HeaderFields fields = extract_channels(header);
  std::vector<std::string_view> words = split_words(fields.text);
  Message message;
  if (implied_role) {
    message.role = *implied_role;
    if (!words.empty() && words.front() == role_name(*implied_role)) words.erase(words.begin());
  } else {
    if (words.empty()) fail("has no role");
    if (!read_role(words.front(), message)) {
      // A tool message has the tool's name in place of the role, and names its recipient.
      if (words.size() == 1)
        fail(fmt::format("the role '{}' is unknown", escape_for_terminal(words.front())));
      if (!is_tool_name(words.front()))
        fail(fmt::format("'{}' is not a role", escape_for_terminal(words.front())));
      message.role = Role::kTool;
      message.name = words.front();
    }
    words.erase(words.begin());
  }
  if (fields.channels.size() > 1) fail("has two channels");
  if (!fields.channels.empty()) {
    const std::string& channel = fields.channels.front();
    if (channel.empty()) fail("the channel is empty");
    if (!is_header_word(channel))
      fail(fmt::format("'{}' is not a channel", escape_for_terminal(channel)));
    message.channel = channel;
  }
  read_recipient_and_type(words, message);
  return message;
}

Message read_header_tolerant(const HeaderText& header, std::optional<Role> implied_role) {
  const HeaderFields fields = extract_channels(header);
  std::vector<std::string_view> words = split_words(fields.text);
  Message message;
  message.role = Role::kAssistant;
  if (!words.empty()) {
    const std::string_view first = words.front();
    const bool is_role = read_role(first, message);
    const bool is_target =
        first.starts_with(kRecipientPrefix) || first.starts_with(kConstrainMarker);
    if (!is_role && !implied_role && is_tool_name(first) &&
        (is_qualified_name(first) || (words.size() > 1 && words[1] == "to=assistant"))) {
      message.role = Role::kTool;
      message.name = first;
    }
    if (is_role || (!implied_role && !is_target)) words.erase(words.begin());
  }
  for (const std::string& channel : fields.channels) {
    const std::string_view name = leading_name(channel);
    if (!name.empty()) message.channel = name;
  }
  for (std::string_view word : words) {
    const bool is_name = leading_name(word) == word;
    if (word.starts_with(kRecipientPrefix)) {
      word.remove_prefix(kRecipientPrefix.size());
      if (!is_header_word(word)) word = leading_name(word);  // cut at the first invalid character
      if (!word.empty()) message.recipient = word;
    } else if (is_qualified_name(word)) {
      if (!message.recipient) message.recipient = word;
    } else if (word.starts_with(kConstrainMarker) ? is_content_type(word)
                                                  : is_name && !message.content_type) {
      message.content_type = word;
    }
  }
  // openai-harmony reads this well-formed header in its own way; see Message::is_tool_call.
  if (words.size() == 1 && words.front().starts_with(kConstrainMarker)) {
    std::swap(message.recipient, message.content_type);
  }
  return message;
}

Message read_unterminated_header(const HeaderText& header, std::optional<Role> implied_role) {
  Message message;
  message.role = Role::kAssistant;
  std::string content;
  for (const auto& [marker, text] : header.segments()) {
    std::string_view rest = text;
    if (marker == Marker::kNone) {
      consume_role(rest, implied_role, message);
    } else if (marker == Marker::kChannel) {
      consume_known_channel(rest, message);
    } else {
      message.content_type = fmt::format("{}{}", kConstrainMarker, consume_name(rest));
    }
    skip_whitespace(rest);
    if (content.empty()) consume_recipient(rest, message);
    content += rest;
  }
  message.contents.emplace_back(std::move(content));
  return message;
}

}  // namespace mxgpt::harmony
