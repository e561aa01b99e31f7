#include "text/chat/harmony/conversation.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "base/escape.h"

namespace mxgpt::harmony {
namespace {

constexpr std::array<std::pair<Role, std::string_view>, 5> kRoles = {{
    {Role::kUser, "user"},
    {Role::kAssistant, "assistant"},
    {Role::kSystem, "system"},
    {Role::kDeveloper, "developer"},
    {Role::kTool, "tool"},
}};

// Spelling in the rendered prompt, and in openai-harmony's JSON.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kEfforts = {{
    {"low", "Low"},
    {"medium", "Medium"},
    {"high", "High"},
}};

std::optional<std::string> optional_string(const json::Node& node, std::string_view key) {
  const auto found = node.find(key);
  if (!found) return std::nullopt;
  return std::string(found->string());
}

ToolNamespaces tools_from_json(const json::Node& node) {
  ToolNamespaces tools;
  const auto found = node.find("tools");
  if (!found) return tools;
  for (const auto& entry : found->object()) {
    const json::Node from = (*found)[entry.key()];
    ToolNamespace& to = tools[std::string(entry.key())];
    to.name = from["name"].string();
    to.description = optional_string(from, "description");
    const json::Node list = from["tools"];
    for (size_t i = 0; i < list.array().size(); ++i) {
      to.tools.push_back(tool_from_json(list.at(i)));
    }
  }
  return tools;
}

SystemContent system_from_json(const json::Node& node) {
  SystemContent content;
  content.model_identity = optional_string(node, "model_identity");
  if (const auto effort = node.find("reasoning_effort")) {
    content.reasoning_effort = effort_from_name(effort->string());
    if (!content.reasoning_effort) {
      effort->fail(fmt::format("must be Low, Medium or High, but is '{}'",
                               escape_for_terminal(effort->string())));
    }
  }
  content.conversation_start_date = optional_string(node, "conversation_start_date");
  content.knowledge_cutoff = optional_string(node, "knowledge_cutoff");
  if (const auto channels = node.find("channel_config")) {
    ChannelConfig& config = content.channel_config.emplace();
    const json::Node list = (*channels)["valid_channels"];
    for (size_t i = 0; i < list.array().size(); ++i) {
      config.valid_channels.emplace_back(list.at(i).string());
    }
    config.channel_required = (*channels)["channel_required"].boolean();
  }
  content.tools = tools_from_json(node);
  return content;
}

Content content_from_json(const json::Node& node) {
  const json::Node type = node["type"];
  if (type.string() == "text") return std::string(node["text"].string());
  if (type.string() == "system_content") return system_from_json(node);
  if (type.string() == "developer_content") {
    return DeveloperContent{optional_string(node, "instructions"), tools_from_json(node)};
  }
  type.fail(fmt::format("must be text, system_content or developer_content, but is '{}'",
                        escape_for_terminal(type.string())));
}

Message message_from_json(const json::Node& node) {
  Message message;
  const json::Node role = node["role"];
  const auto known = role_from_name(role.string());
  if (!known) {
    role.fail(fmt::format("must be user, assistant, system, developer or tool, but is '{}'",
                          escape_for_terminal(role.string())));
  }
  message.role = *known;
  message.name = optional_string(node, "name");
  message.recipient = optional_string(node, "recipient");
  message.channel = optional_string(node, "channel");
  message.content_type = optional_string(node, "content_type");
  const json::Node content = node["content"];
  if (content.raw().is_string()) {
    message.contents.emplace_back(std::string(content.string()));
  } else {
    for (size_t i = 0; i < content.array().size(); ++i) {
      message.contents.push_back(content_from_json(content.at(i)));
    }
  }
  return message;
}

void set_if(json::object& object, std::string_view key, const std::optional<std::string>& value) {
  if (value) object[key] = *value;
}

void set_tools(json::object& object, const ToolNamespaces& tools) {
  if (tools.empty()) return;
  json::object namespaces;
  for (const auto& [key, from] : tools) {
    json::object to;
    to["name"] = from.name;
    set_if(to, "description", from.description);
    json::array list;
    for (const ToolDescription& tool : from.tools) {
      json::object entry{{"name", tool.name}, {"description", tool.description}};
      if (tool.parameters) entry["parameters"] = *tool.parameters;
      list.push_back(std::move(entry));
    }
    to["tools"] = std::move(list);
    namespaces[key] = std::move(to);
  }
  object["tools"] = std::move(namespaces);
}

json::value to_json(const std::string& text) {
  return json::object{{"type", "text"}, {"text", text}};
}

json::value to_json(const SystemContent& content) {
  json::object object;
  set_if(object, "model_identity", content.model_identity);
  if (content.reasoning_effort) {
    object["reasoning_effort"] = kEfforts[static_cast<size_t>(*content.reasoning_effort)].second;
  }
  set_if(object, "conversation_start_date", content.conversation_start_date);
  set_if(object, "knowledge_cutoff", content.knowledge_cutoff);
  if (content.channel_config) {
    json::array channels;
    for (const std::string& channel : content.channel_config->valid_channels) {
      channels.emplace_back(channel);
    }
    object["channel_config"] =
        json::object{{"valid_channels", std::move(channels)},
                     {"channel_required", content.channel_config->channel_required}};
  }
  set_tools(object, content.tools);
  object["type"] = "system_content";
  return object;
}

json::value to_json(const DeveloperContent& content) {
  json::object object;
  set_if(object, "instructions", content.instructions);
  set_tools(object, content.tools);
  object["type"] = "developer_content";
  return object;
}

}  // namespace

std::string_view role_name(Role role) {
  return kRoles[static_cast<size_t>(role)].second;
}

std::optional<Role> role_from_name(std::string_view name) {
  for (const auto& [role, text] : kRoles) {
    if (text == name) return role;
  }
  return std::nullopt;
}

std::string_view effort_name(ReasoningEffort effort) {
  return kEfforts[static_cast<size_t>(effort)].first;
}

std::optional<ReasoningEffort> effort_from_name(std::string_view name) {
  for (size_t i = 0; i < kEfforts.size(); ++i) {
    if (name == kEfforts[i].first || name == kEfforts[i].second) {
      return static_cast<ReasoningEffort>(i);
    }
  }
  return std::nullopt;
}

bool Message::is_tool_call() const {
  return role == Role::kAssistant && recipient && !recipient->starts_with(kConstrainMarker) &&
         *recipient != "all" && !role_from_name(*recipient);
}

std::string Message::text() const {
  std::string joined;
  for (const Content& content : contents) {
    if (const auto* text = std::get_if<std::string>(&content)) joined += *text;
  }
  return joined;
}

Message make_message(Role role, Content content) {
  Message message;
  message.role = role;
  message.contents.push_back(std::move(content));
  return message;
}

ToolDescription tool_from_json(const json::Node& node) {
  ToolDescription tool;
  tool.name = node["name"].string();
  tool.description = node.string_or("description", "");
  if (const auto parameters = node.find("parameters")) tool.parameters = parameters->raw();
  return tool;
}

Conversation conversation_from_json(const json::Node& node) {
  Conversation conversation;
  const json::Node list = node["messages"];
  for (size_t i = 0; i < list.array().size(); ++i) {
    conversation.messages.push_back(message_from_json(list.at(i)));
  }
  return conversation;
}

json::value to_json(const Message& message) {
  json::object object;
  object["role"] = role_name(message.role);
  object["name"] = message.name ? json::value(*message.name) : json::value(nullptr);
  json::array contents;
  for (const Content& content : message.contents) {
    contents.push_back(std::visit([](const auto& c) { return to_json(c); }, content));
  }
  object["content"] = std::move(contents);
  set_if(object, "channel", message.channel);
  set_if(object, "recipient", message.recipient);
  set_if(object, "content_type", message.content_type);
  return object;
}

json::value to_json(const Conversation& conversation) {
  json::array messages;
  for (const Message& message : conversation.messages) messages.push_back(to_json(message));
  return json::object{{"messages", std::move(messages)}};
}

}  // namespace mxgpt::harmony
