// Builds Harmony conversations: system and developer messages, tools, tool results.
#pragma once

#include <string>
#include <vector>

#include "text/chat/harmony/conversation.h"

namespace mxgpt::harmony {

/// The built-in tools of gpt-oss, with the descriptions it was trained on.
ToolNamespace browser_tool();
ToolNamespace python_tool();

struct ConversationOptions {
  std::string date;  ///< current date, "2026-11-23"; empty: not rendered
  ReasoningEffort reasoning_effort = ReasoningEffort::kMedium;
  std::string instructions;  ///< the application's system prompt; may be empty
  std::vector<ToolDescription> functions;
  bool browser = false;
  bool python = false;
};

/// A conversation with the system message and, if there are instructions or functions, the
/// developer message.
Conversation make_conversation(const ConversationOptions& options);

/// Reads functions in OpenAI's JSON form: an array of {"type": "function", "function": {name,
/// description, parameters}}, or of the inner objects. Throws Error naming the field, for a name
/// that is not 1 to 64 letters, digits, '_' and '-', a duplicate name, or parameters that are not
/// an object.
std::vector<ToolDescription> functions_from_json(const json::Node& node);

/// The tool's reply to `call`, for which is_tool_call() must hold.
Message tool_result(const Message& call, std::string text);

}  // namespace mxgpt::harmony
