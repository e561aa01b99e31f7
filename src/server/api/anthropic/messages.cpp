// /v1/messages, Anthropic's API.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/escape.h"
#include "chat/prepare_chat.h"
#include "server/api/anthropic/message_writer.h"
#include "server/api/anthropic/messages_schema.h"
#include "server/api/api_server.h"
#include "server/api/completion_pipeline.h"
#include "server/api/openai_chat/response_format.h"
#include "server/api/sampling_fields.h"

namespace mxgpt::server {

namespace {

using Kind = chat::ChatItem::Kind;

std::string text_of(const json::Node& content) {
  if (content.raw().is_string()) return std::string(content.string());
  std::string text;
  for (size_t i = 0; i < content.array().size(); ++i) {
    if (i > 0) text += "\n\n";
    text += content.at(i)["text"].string();
  }
  return text;
}

[[noreturn]] void fail(const json::Node& node, const std::string& message) {
  throw ApiError(400, fmt::format("{}: {}", node.path(), message), node.path(), "invalid_value");
}

/// Consecutive text blocks become one item.
void add_text(std::vector<chat::ChatItem>& items, size_t first, Kind kind, const std::string& text,
              const std::string& field) {
  if (items.size() > first && items.back().kind == kind) {
    items.back().text += "\n\n" + text;
  } else {
    items.push_back({.kind = kind, .text = text, .field = field});
  }
}

void read_message(const json::Node& message, std::vector<chat::ChatItem>& items) {
  const bool is_user = message["role"].string() == "user";
  const json::Node content = message["content"];
  if (content.raw().is_string()) {
    items.push_back({.kind = is_user ? Kind::user : Kind::assistant,
                     .text = std::string(content.string()),
                     .field = message.path()});
    return;
  }
  const size_t first = items.size();
  const json::array& blocks = content.array();
  const bool calls = std::any_of(blocks.begin(), blocks.end(), [](const json::value& block) {
    return block.at("type") == "tool_use";
  });
  for (size_t i = 0; i < blocks.size(); ++i) {
    const json::Node block = content.at(i);
    const std::string_view type = block["type"].string();
    if (type == "text") {
      add_text(items, first,
               is_user ? Kind::user
               : calls ? Kind::commentary
                       : Kind::assistant,
               std::string(block["text"].string()), block.path());
    } else if (type == "tool_result") {
      if (!is_user) fail(block, "tool_result blocks are only allowed in user messages");
      const auto result = block.find("content");
      items.push_back({.kind = Kind::tool_result,
                       .text = result ? text_of(*result) : "",
                       .field = block.path() + ".tool_use_id",
                       .id = std::string(block["tool_use_id"].string())});
    } else if (is_user) {
      fail(block, "thinking and tool_use blocks are only allowed in assistant messages");
    } else if (type == "thinking") {
      const std::string_view thinking = block["thinking"].string();
      if (!thinking.empty()) {
        items.push_back(
            {.kind = Kind::reasoning, .text = std::string(thinking), .field = block.path()});
      }
    } else {
      items.push_back({.kind = Kind::tool_call,
                       .text = json::serialize(block["input"].raw()),
                       .field = block.path(),
                       .id = std::string(block["id"].string()),
                       .name = std::string(block["name"].string())});
    }
  }
}

chat::ToolConfig read_tools(const json::Node& body) {
  chat::ToolConfig tools;
  if (const auto list = body.find("tools")) {
    json::array functions;
    for (const json::value& tool : list->array()) {
      json::object function = tool.get_object();
      function["parameters"] = function["input_schema"];
      functions.push_back(std::move(function));
    }
    const json::value value = std::move(functions);
    tools.declare({value, "tools"});
  }
  const auto choice = body.find("tool_choice");
  const std::string_view type = choice ? (*choice)["type"].string() : "auto";
  if (type == "none") tools.disable();
  if (type == "any") tools.require_any("tool_choice");
  if (type == "tool") tools.require({std::string((*choice)["name"].string())}, "tool_choice");
  return tools;
}

/// Whether the client sees thinking, and the reasoning effort.
struct ThinkingOptions {
  bool visible = false;
  harmony::ReasoningEffort effort = harmony::ReasoningEffort::kLow;
};

ThinkingOptions read_thinking(const json::Node& body) {
  using harmony::ReasoningEffort;
  ThinkingOptions out;
  const auto thinking = body.find("thinking");
  const std::string_view type = thinking ? (*thinking)["type"].string() : "disabled";
  if (type != "disabled") {
    out.visible = thinking->string_or("display", "summarized") != "omitted";
    out.effort = ReasoningEffort::kMedium;
  }
  if (type == "enabled") {
    const int64_t budget = (*thinking)["budget_tokens"].integer(1, 1'000'000'000);
    out.effort = budget < 4096    ? ReasoningEffort::kLow
                 : budget < 16384 ? ReasoningEffort::kMedium
                                  : ReasoningEffort::kHigh;
  }
  const auto output = body.find("output_config");
  if (const auto effort = output ? output->find("effort") : std::nullopt)
    out.effort = harmony::effort_from_name(effort->string()).value_or(ReasoningEffort::kHigh);
  return out;
}

chat::ChatRequest read_chat_request(const ServedModel& served, const json::Node& body) {
  chat::ChatRequest chat{.field = "messages", .tools = read_tools(body)};
  if (const auto system = body.find("system")) {
    chat.items.push_back({.kind = Kind::instructions, .text = text_of(*system), .field = "system"});
  }
  const json::Node messages(body["messages"].raw(), "messages");
  for (size_t i = 0; i < messages.array().size(); ++i) read_message(messages.at(i), chat.items);
  if (!messages.array().empty()) {
    const json::Node last = messages.at(messages.array().size() - 1);
    if (last["role"].string() == "assistant")
      fail(last["role"],
           "prefilling the assistant message is not supported; the last message must have role "
           "'user'");
  }
  const auto output = body.find("output_config");
  if (const auto format = output ? output->find("format") : std::nullopt) {
    const json::value named =
        json::object{{"name", "answer"}, {"schema", (*format)["schema"].raw()}};
    chat.format = json_schema_format(served, {named, ""}, "output_config.format");
  }
  if (served.chat().harmony()) chat.effort = read_thinking(body).effort;
  return chat;
}

HandlerResult create_message(const RequestContext& context) {
  const json::Node& body = context.body;
  const auto served = context.api.served_model(body);
  const SamplingFields sampling = read_sampling_fields(body);
  if (sampling.include_usage) {
    throw ApiError(
        400, "stream_options.include_usage: is not supported; the final events always report usage",
        "stream_options.include_usage", "unsupported_parameter");
  }
  chat::ChatRequest chat = read_chat_request(*served, body);
  chat.stops = sampling.stop_strings;
  if (const auto stops = body.find("stop_sequences"))
    for (std::string& stop : read_stops(*stops, "stop_sequences"))
      chat.stops.push_back(std::move(stop));
  const int64_t max_tokens = body["max_tokens"].integer(1, 1'000'000'000);
  chat.max_tokens = max_tokens;
  chat.sampling = sampling.params;
  chat::PreparedChat prepared = served->prepare_chat(chat);
  prepared.request.priority = sampling.priority;
  prepared.request.deadline = context.api.request_deadline();
  const MessageWriter::Options options{
      .stream = sampling.stream,
      .show_thinking = read_thinking(body).visible,
      .prompt_tokens = static_cast<int64_t>(prepared.request.prompt.size()),
      .max_tokens = max_tokens};
  std::vector<engine::Request> requests;
  requests.push_back(std::move(prepared.request));
  return run_completion(
      context, served, std::move(requests),
      std::make_unique<MessageWriter>(served, std::move(prepared.parsers.front()), options),
      sampling.stream);
}

HandlerResult count_tokens(const RequestContext& context) {
  const auto served = context.api.served_model(context.body);
  const chat::PreparedChat prepared =
      served->prepare_chat(read_chat_request(*served, context.body));
  return HttpResponse{
      .body = json::serialize(json::object{{"input_tokens", prepared.request.prompt.size()}})};
}

constexpr Route kRoutes[] = {
    {.method = "POST",
     .path = "/v1/messages",
     .summary = "Create a message (Anthropic's API)",
     .handler = create_message,
     .request_schema = anthropic::kCreateMessage,
     .error_shape = ErrorShape::anthropic},
    {.method = "POST",
     .path = "/v1/messages/count_tokens",
     .summary = "Count the tokens of a conversation",
     .handler = count_tokens,
     .request_schema = anthropic::kPrompt,
     .error_shape = ErrorShape::anthropic},
};

}  // namespace

MXGPT_ROUTES(messages) = kRoutes;

}  // namespace mxgpt::server
