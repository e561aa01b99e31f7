#include "server/api/openai_chat/chat_messages.h"

#include <fmt/format.h>

#include <utility>

#include "server/api/api_error.h"

namespace mxgpt::server {

namespace {

[[noreturn]] void fail(const json::Node& node, const std::string& message) {
  throw ApiError(400, fmt::format("{}: {}", node.path(), message), node.path(), "invalid_value");
}

/// Names the message without the leading "." that nodes of the body have.
json::Node entry(const json::Node& messages, size_t i) {
  return {messages.array()[i], fmt::format("messages[{}]", i)};
}

std::string text_of(const json::Node& message) {
  const auto content = message.find("content");
  if (!content) return {};
  if (content->raw().is_string()) return std::string(content->string());
  std::string text;
  for (size_t i = 0; i < content->array().size(); ++i) text += content->at(i)["text"].string();
  return text;
}

}  // namespace

std::vector<chat::ChatItem> read_messages(const json::Node& messages) {
  using Kind = chat::ChatItem::Kind;
  std::vector<chat::ChatItem> items;
  for (size_t i = 0; i < messages.array().size(); ++i) {
    const json::Node message = entry(messages, i);
    const std::string& field = message.path();
    const std::string_view role = message["role"].string();
    const auto calls = message.find("tool_calls");
    if (calls && role != "assistant")
      fail(message, "tool_calls: only assistant messages may have tool calls");
    if (role == "tool") {
      items.push_back({.kind = Kind::tool_result,
                       .text = text_of(message),
                       .field = field + ".tool_call_id",
                       .id = std::string(message["tool_call_id"].string())});
    } else if (role == "user") {
      items.push_back({.kind = Kind::user, .text = text_of(message), .field = field});
    } else if (role != "assistant") {
      items.push_back({.kind = Kind::instructions, .text = text_of(message), .field = field});
    } else {
      const std::string_view reasoning =
          message.string_or("reasoning_content", message.string_or("reasoning", ""));
      if (!reasoning.empty())
        items.push_back({.kind = Kind::reasoning, .text = std::string(reasoning), .field = field});
      const bool has_calls = calls && !calls->array().empty();
      std::string text = text_of(message);
      if (!has_calls || !text.empty()) {
        items.push_back({.kind = has_calls ? Kind::commentary : Kind::assistant,
                         .text = std::move(text),
                         .field = field});
      }
      for (size_t c = 0; has_calls && c < calls->array().size(); ++c) {
        const json::Node call = calls->at(c);
        items.push_back({.kind = Kind::tool_call,
                         .text = std::string(call["function"]["arguments"].string()),
                         .field = call.path(),
                         .id = std::string(call["id"].string()),
                         .name = std::string(call["function"]["name"].string())});
      }
    }
  }
  return items;
}

}  // namespace mxgpt::server
