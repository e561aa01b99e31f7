// A conversation as plain data, and its JSON. The shape of the JSON is that of the openai-harmony
// library
// (`Conversation.to_json`), so that conversations can be exchanged with it. Everything here owns
// what it holds.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"

namespace mxgpt::harmony {

enum class Role { kUser, kAssistant, kSystem, kDeveloper, kTool };
std::string_view role_name(Role role);
std::optional<Role> role_from_name(std::string_view name);

enum class ReasoningEffort { kLow, kMedium, kHigh };
std::string_view effort_name(ReasoningEffort effort);  ///< "low", "medium", "high"
/// Accepts either case ("low", "Low"); empty for anything else.
std::optional<ReasoningEffort> effort_from_name(std::string_view name);

/// One function that the model may call.
struct ToolDescription {
  std::string name;
  std::string description;                ///< empty: none is rendered
  std::optional<json::value> parameters;  ///< JSON Schema of the one argument object
};

/// Functions under a common name: a call goes to "namespace.function".
struct ToolNamespace {
  std::string name;
  std::optional<std::string> description;
  std::vector<ToolDescription> tools;
};

/// Rendered in the order of its keys.
using ToolNamespaces = std::map<std::string, ToolNamespace>;

struct ChannelConfig {
  std::vector<std::string> valid_channels;
  bool channel_required = false;
};

/// What the system message says; an absent member is not rendered.
struct SystemContent {
  std::optional<std::string> model_identity;
  std::optional<ReasoningEffort> reasoning_effort;
  std::optional<std::string> conversation_start_date;  ///< ISO 8601, "2026-11-23"
  std::optional<std::string> knowledge_cutoff;         ///< "2024-06"
  std::optional<ChannelConfig> channel_config;
  ToolNamespaces tools;  ///< builtin tools: the browser, python
};

/// What an application calls its system prompt, and its functions (namespace "functions").
struct DeveloperContent {
  std::optional<std::string> instructions;
  ToolNamespaces tools;
};

using Content = std::variant<std::string, SystemContent, DeveloperContent>;

/// The marker that opens a content type such as "<|constrain|>json".
inline constexpr std::string_view kConstrainMarker = "<|constrain|>";

struct Message {
  Role role = Role::kUser;
  std::optional<std::string>
      name;  ///< of the author; a tool message has its function's: "functions.f"
  std::optional<std::string> recipient;
  std::optional<std::string> channel;       ///< "analysis", "commentary" or "final"
  std::optional<std::string> content_type;  ///< "<|constrain|>json", "code"
  std::vector<Content> contents;

  /// Whether the assistant calls a tool. A recipient alone does not tell: it may be a role, and
  /// openai-harmony, hence our parser, reads the lone content type of `<|channel|>final
  /// <|constrain|>json` as a recipient.
  bool is_tool_call() const;
  /// The text contents joined.
  std::string text() const;
};

Message make_message(Role role, Content content);

struct Conversation {
  std::vector<Message> messages;
};

/// Throws Error naming the field. Fields that are not known are ignored; content may be a string
/// instead of a list.
Conversation conversation_from_json(const json::Node& node);
ToolDescription tool_from_json(const json::Node& node);

json::value to_json(const Message& message);
json::value to_json(const Conversation& conversation);

}  // namespace mxgpt::harmony
