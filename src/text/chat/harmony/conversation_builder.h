// What a chat program needs to start a Harmony conversation and to go on with it.
#pragma once

#include <string>
#include <vector>

#include "text/chat/harmony/conversation.h"

namespace mxgpt::harmony {

/// The tools that gpt-oss was trained with, described in its own words.
ToolNamespace browser_tool();
ToolNamespace python_tool();

struct ConversationOptions {
  std::string date;  ///< today as "2026-11-23"; empty leaves the line out
  ReasoningEffort reasoning_effort = ReasoningEffort::kMedium;
  std::string instructions;  ///< the application's system prompt; empty for none
  std::vector<ToolDescription> functions;
  bool browser = false;
  bool python = false;
};

/// The system message and, where there are instructions or functions, the developer message.
Conversation make_conversation(const ConversationOptions& options);

/// Functions from OpenAI's JSON: an array of {"type": "function", "function": {name, description,
/// parameters}}, or of the inner objects alone. Throws Error naming the field: for a name that is
/// not 1 to 64 letters, digits,
/// '_' and '-', one declared twice, parameters that are no object.
std::vector<ToolDescription> functions_from_json(const json::Node& node);

/// The answer of the tool that `call` (a message with is_tool_call()) went to.
Message tool_result(const Message& call, std::string text);

}  // namespace mxgpt::harmony
