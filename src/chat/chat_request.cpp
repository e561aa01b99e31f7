#include "chat/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/escape.h"
#include "chat/request_error.h"
#include "text/chat/harmony/conversation_builder.h"

namespace mxgpt::chat {

void ToolConfig::declare(const json::Node& functions) {
  declare(harmony::functions_from_json(functions));
}

void ToolConfig::declare(std::vector<harmony::ToolDescription> functions) {
  declared = std::move(functions);
  for (const auto& tool : declared) allowed.push_back(tool.name);
}

void ToolConfig::disable() {
  declared.clear();
  allowed.clear();
}

void ToolConfig::require(std::vector<std::string> names, const std::string& field) {
  for (const std::string& name : names) {
    if (std::find(allowed.begin(), allowed.end(), name) == allowed.end())
      throw RequestError(field, fmt::format("there is no tool '{}'", escape_for_terminal(name)));
  }
  allowed = std::move(names);
  require_any(field);
}

void ToolConfig::require_any(const std::string& field) {
  if (allowed.empty()) throw RequestError(field, "requires a tool call, but no tools are declared");
  call_required = true;
}

}  // namespace mxgpt::chat
