#include "server/chat_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "base/printable.h"
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

using harmony::Message;
using harmony::Role;

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

Message assistant(std::string text, const char* channel) {
  Message message = harmony::make_message(Role::kAssistant, std::move(text));
  message.channel = channel;
  return message;
}

/// The instructions in front; how many messages they take.
size_t leading_instructions(const json::Node& messages, std::string& out) {
  size_t i = 0;
  for (; i < messages.array().size(); ++i) {
    const json::Node message = entry(messages, i);
    const std::string_view role = message["role"].string();
    if (role != "system" && role != "developer") break;
    const std::string text = text_of(message);
    if (!out.empty() && !text.empty()) out += "\n\n";
    out += text;
  }
  return i;
}

/// The calls of message `i`, each with its result, which are among the tool messages after it; the
/// number of the first message behind these.
size_t add_calls(const json::Node& messages, size_t i, harmony::Conversation& chat) {
  size_t end = i + 1;
  std::map<std::string_view, size_t> results;  // by call, the number of the message
  for (; end < messages.array().size(); ++end) {
    const json::Node message = entry(messages, end);
    if (message["role"].string() != "tool") break;
    if (!results.emplace(message["tool_call_id"].string(), end).second)
      fail(message["tool_call_id"], "answers a call a second time");
  }
  const json::Node message = entry(messages, i);
  const json::Node calls = message["tool_calls"];
  for (size_t c = 0; c < calls.array().size(); ++c) {
    const json::Node call = calls.at(c);
    const auto result = results.find(call["id"].string());
    if (result == results.end()) fail(call["id"], "no tool message answers this call");
    const std::string name = fmt::format("functions.{}", call["function"]["name"].string());
    Message called = assistant(std::string(call["function"]["arguments"].string()), "commentary");
    called.recipient = name;
    called.content_type = "<|constrain|>json";
    chat.messages.push_back(called);
    chat.messages.push_back(harmony::tool_result(called, text_of(entry(messages, result->second))));
    results.erase(result);
  }
  if (!results.empty()) {
    fail(entry(messages, results.begin()->second)["tool_call_id"],
         fmt::format("'{}' is no call of the message before", printable(results.begin()->first)));
  }
  return end;
}

}  // namespace

const Fields kMessageFields = kMessageTable;

harmony::Conversation harmony_messages(const json::Node& messages, harmony::ChatSetup setup,
                                       const std::string& response_format) {
  size_t i = leading_instructions(messages, setup.instructions);
  if (!response_format.empty()) {
    if (!setup.instructions.empty()) setup.instructions += "\n\n";
    setup.instructions += response_format;
  }
  harmony::Conversation chat = harmony::begin_chat(setup);
  const size_t count = messages.array().size();
  if (i == count)
    throw ApiError(400, "messages: needs a message that is no instruction", "messages");
  while (i < count) {
    const json::Node message = entry(messages, i);
    const std::string_view role = message["role"].string();
    if (message.find("tool_calls") && role != "assistant")
      fail(message, "only the assistant calls tools");
    if (role == "tool") fail(message, "answers no call");
    if (role == "user") {
      chat.messages.push_back(harmony::make_message(Role::kUser, text_of(message)));
    } else if (role != "assistant") {
      harmony::DeveloperContent developer;
      developer.instructions = text_of(message);
      chat.messages.push_back(harmony::make_message(Role::kDeveloper, std::move(developer)));
    } else {
      const std::string_view reasoning =
          message.string_or("reasoning_content", message.string_or("reasoning", ""));
      if (!reasoning.empty())
        chat.messages.push_back(assistant(std::string(reasoning), "analysis"));
      const auto calls = message.find("tool_calls");
      const bool has_calls = calls && !calls->array().empty();
      const std::string text = text_of(message);
      if (has_calls) {
        if (!text.empty()) chat.messages.push_back(assistant(text, "commentary"));
        i = add_calls(messages, i, chat);
        continue;
      }
      chat.messages.push_back(assistant(text, "final"));
    }
    ++i;
  }
  return chat;
}

std::vector<ChatMessage> turn_messages(const json::Node& messages) {
  std::vector<ChatMessage> turns;
  std::string instructions;
  size_t i = leading_instructions(messages, instructions);
  if (!instructions.empty()) turns.push_back({ChatMessage::Role::kSystem, instructions});
  for (; i < messages.array().size(); ++i) {
    const json::Node message = entry(messages, i);
    const std::string_view role = message["role"].string();
    if (role == "tool" || message.find("tool_calls"))
      fail(message, "this model's chat format has no tools");
    if (role != "user" && role != "assistant") fail(message["role"], "is out of turn");
    turns.push_back({role == "user" ? ChatMessage::Role::kUser : ChatMessage::Role::kAssistant,
                     text_of(message)});
  }
  return turns;
}

}  // namespace mxgpt::server
