// Harmony conversations as plain data, and their JSON form, which equals `Conversation.to_json` of
// the openai-harmony library.
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
/// Accepts "low" and "Low"; nothing for other text.
std::optional<ReasoningEffort> effort_from_name(std::string_view name);

/// A function that the model may call.
struct ToolDescription {
  std::string name;
  std::string description;                ///< empty: not rendered
  std::optional<json::value> parameters;  ///< JSON Schema of the argument object
};

/// Functions of one namespace; a call is addressed to "namespace.function".
struct ToolNamespace {
  std::string name;
  std::optional<std::string> description;
  std::vector<ToolDescription> tools;
};

/// Rendered in key order.
using ToolNamespaces = std::map<std::string, ToolNamespace>;

struct ChannelConfig {
  std::vector<std::string> valid_channels;
  bool channel_required = false;
};

/// Content of the system message. Absent members are not rendered.
struct SystemContent {
  std::optional<std::string> model_identity;
  std::optional<ReasoningEffort> reasoning_effort;
  std::optional<std::string> conversation_start_date;  ///< ISO 8601, "2026-11-23"
  std::optional<std::string> knowledge_cutoff;         ///< "2024-06"
  std::optional<ChannelConfig> channel_config;
  ToolNamespaces tools;  ///< built-in tools: browser, python
};

/// Content of the developer message: the application's system prompt and its functions (namespace
/// "functions").
struct DeveloperContent {
  std::optional<std::string> instructions;
  ToolNamespaces tools;
};

using Content = std::variant<std::string, SystemContent, DeveloperContent>;

/// The marker before a constrained content type, as in "<|constrain|>json".
inline constexpr std::string_view kConstrainMarker = "<|constrain|>";

struct Message {
  Role role = Role::kUser;
  std::optional<std::string>
      name;  ///< author's name; for a tool message the function: "functions.f"
  std::optional<std::string> recipient;
  std::optional<std::string> channel;       ///< "analysis", "commentary" or "final"
  std::optional<std::string> content_type;  ///< "<|constrain|>json", "code"
  std::vector<Content> contents;

  /// Whether the assistant calls a tool. A recipient alone is not enough: it may be a role, and
  /// openai-harmony (hence our parser) reads the content type in `<|channel|>final
  /// <|constrain|>json` as a recipient.
  bool is_tool_call() const;
  /// The concatenated text contents.
  std::string text() const;
};

Message make_message(Role role, Content content);

struct Conversation {
  std::vector<Message> messages;
};

/// Content may be a string instead of a list. Ignores unknown fields. Throws Error naming the
/// field.
Conversation conversation_from_json(const json::Node& node);
ToolDescription tool_from_json(const json::Node& node);

json::value to_json(const Message& message);
json::value to_json(const Conversation& conversation);

}  // namespace mxgpt::harmony
