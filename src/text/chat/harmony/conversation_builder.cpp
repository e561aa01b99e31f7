#include "text/chat/harmony/conversation_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/escape.h"

namespace mxgpt::harmony {
namespace {

constexpr size_t kMaxFunctionName = 64;

bool is_function_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxFunctionName &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '-';
         });
}

ToolDescription function_from_json(const json::Node& entry) {
  const auto type = entry.find("type");
  if (type && type->string() != "function") {
    type->fail(fmt::format("only functions are supported, but this is '{}'",
                           escape_for_terminal(type->string())));
  }
  const json::Node function = entry.find("function").value_or(entry);
  ToolDescription tool = tool_from_json(function);
  if (!is_function_name(tool.name)) {
    function["name"].fail(fmt::format("must be 1 to {} letters, digits, '_' and '-', but is '{}'",
                                      kMaxFunctionName, escape_for_terminal(tool.name)));
  }
  if (tool.parameters) function["parameters"].object();
  return tool;
}

}  // namespace

Conversation make_conversation(const ConversationOptions& options) {
  SystemContent system;
  system.model_identity = "You are ChatGPT, a large language model trained by OpenAI.";
  system.reasoning_effort = options.reasoning_effort;
  if (!options.date.empty()) system.conversation_start_date = options.date;
  system.knowledge_cutoff = "2024-06";
  system.channel_config = ChannelConfig{{"analysis", "commentary", "final"}, true};
  if (options.browser) system.tools["browser"] = browser_tool();
  if (options.python) system.tools["python"] = python_tool();

  DeveloperContent developer;
  if (!options.instructions.empty()) developer.instructions = options.instructions;
  if (!options.functions.empty())
    developer.tools["functions"] = {"functions", std::nullopt, options.functions};

  Conversation chat;
  chat.messages.push_back(make_message(Role::kSystem, std::move(system)));
  if (developer.instructions || !developer.tools.empty()) {
    chat.messages.push_back(make_message(Role::kDeveloper, std::move(developer)));
  }
  return chat;
}

std::vector<ToolDescription> functions_from_json(const json::Node& node) {
  std::vector<ToolDescription> functions;
  std::set<std::string> names;
  for (size_t i = 0; i < node.array().size(); ++i) {
    const json::Node entry = node.at(i);
    functions.push_back(function_from_json(entry));
    if (!names.insert(functions.back().name).second) {
      entry.fail(fmt::format("duplicate function name '{}'", functions.back().name));
    }
  }
  return functions;
}

Message tool_result(const Message& call, std::string text) {
  MXGPT_CHECK(call.is_tool_call(), "role {}", role_name(call.role));
  Message result = make_message(Role::kTool, std::move(text));
  result.name = call.recipient;
  result.recipient = role_name(Role::kAssistant);
  result.channel = call.channel;
  return result;
}

}  // namespace mxgpt::harmony
