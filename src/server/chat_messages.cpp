#include "server/chat_messages.h"

#include <fmt/format.h>

#include <utility>

#include "server/api_error.h"

namespace mxgpt::server {

namespace {

constexpr Field kPartTable[] = {
    Field{"type", kString, "text is all that the models take"}.one_of("text").needed(),
    Field{"text", kString, "the text"}.needed(),
};
constexpr Fields kPartFields = kPartTable;

constexpr Field kCalledTable[] = {
    Field{"name", kString, "the function"}.needed(),
    Field{"arguments", kString, "JSON, as text"}.needed(),
};
constexpr Fields kCalledFields = kCalledTable;

constexpr Field kCallTable[] = {
    Field{"id", kString, "that the tool message names"}.needed(),
    Field{"type", kString, ""}.one_of("function"),
    Field{"function", kObject, "what is called"}.of(&kCalledFields).needed(),
    Field{"index", kInteger, "of streams"}.unused(),
};
constexpr Fields kCallFields = kCallTable;

constexpr Field kMessageTable[] = {
    Field{"role", kString, "who speaks"}.one_of("system|developer|user|assistant|tool").needed(),
    Field{"content", kString | kArray, "a text, or parts"}.each(kObject).of(&kPartFields),
    Field{"name", kString, "of the speaker"}.unused(),
    {"reasoning_content", kString,
     "the assistant's reasoning: kept until its turn has ended in an answer"},
    {"reasoning", kString, "another name of reasoning_content"},
    Field{"tool_calls", kArray, "the assistant's calls"}.at_most(128).each(kObject).of(
        &kCallFields),
    {"tool_call_id", kString, "of a tool message: the call that it answers"},
    Field{"refusal", kString, "of OpenAI's"}.unused(),
    Field{"annotations", kArray, "of OpenAI's"}.unused(),
};

[[noreturn]] void fail(const json::Node& node, const std::string& what) {
  throw ApiError(400, fmt::format("{}: {}", node.path(), what), node.path(), "invalid_value");
}

/// Nodes of the body begin with a point: "" + "." + "messages".
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

const Fields kMessageFields = kMessageTable;

std::vector<DialogItem> read_messages(const json::Node& messages) {
  using Kind = DialogItem::Kind;
  std::vector<DialogItem> items;
  for (size_t i = 0; i < messages.array().size(); ++i) {
    const json::Node message = entry(messages, i);
    const std::string& field = message.path();
    const std::string_view role = message["role"].string();
    const auto calls = message.find("tool_calls");
    if (calls && role != "assistant") fail(message, "only the assistant calls tools");
    if (role == "tool") {
      items.push_back({.kind = Kind::result,
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
        items.push_back({.kind = has_calls ? Kind::preamble : Kind::answer,
                         .text = std::move(text),
                         .field = field});
      }
      for (size_t c = 0; has_calls && c < calls->array().size(); ++c) {
        const json::Node call = calls->at(c);
        items.push_back({.kind = Kind::call,
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
