#include "server/api/openai_responses/response_items.h"

#include <fmt/format.h>

#include <utility>

#include "server/api/api_error.h"
#include "server/api/completion_pipeline.h"

namespace mxgpt::server {

namespace {

std::string text_of(const json::Node& content) {
  if (content.raw().is_string()) return std::string(content.string());
  std::string text;
  for (size_t i = 0; i < content.array().size(); ++i) {
    const json::Node part = content.at(i);
    text += part.string_or("text", part.string_or("refusal", ""));
  }
  return text;
}

/// Whether a function call follows item `i`, with at most reasoning between.
bool precedes_tool_call(const json::Node& items, size_t i) {
  for (++i; i < items.array().size(); ++i) {
    const std::string_view type = items.at(i).string_or("type", "message");
    if (type != "reasoning") return type == "function_call";
  }
  return false;
}

chat::ChatItem::Kind kind_of(const json::Node& items, size_t i) {
  using Kind = chat::ChatItem::Kind;
  const json::Node item = items.at(i);
  const std::string_view role = item["role"].string();
  if (role == "user") return Kind::user;
  if (role != "assistant") return Kind::instructions;
  const std::string_view phase = item.string_or("phase", "");
  if (phase.empty()) return precedes_tool_call(items, i) ? Kind::commentary : Kind::assistant;
  return phase == "commentary" ? Kind::commentary : Kind::assistant;
}

}  // namespace

void read_items(const json::Node& items, const std::string& field,
                std::vector<chat::ChatItem>& out) {
  using Kind = chat::ChatItem::Kind;
  for (size_t i = 0; i < items.array().size(); ++i) {
    const json::Node item(items.array()[i], fmt::format("{}[{}]", field, i));
    const std::string_view type = item.string_or("type", "message");
    if (type == "message") {
      out.push_back(
          {.kind = kind_of(items, i), .text = text_of(item["content"]), .field = item.path()});
    } else if (type == "reasoning") {
      auto text = item.find("content");
      if (!text || text->array().empty()) text = item.find("summary");
      if (text && !text->array().empty()) {
        out.push_back({.kind = Kind::reasoning, .text = text_of(*text), .field = item.path()});
      }
    } else if (type == "function_call") {
      out.push_back({.kind = Kind::tool_call,
                     .text = std::string(item["arguments"].string()),
                     .field = item.path(),
                     .id = std::string(item["call_id"].string()),
                     .name = std::string(item["name"].string())});
    } else {
      out.push_back({.kind = Kind::tool_result,
                     .text = text_of(item["output"]),
                     .field = item.path() + ".call_id",
                     .id = std::string(item["call_id"].string())});
    }
  }
}

json::array normalize_items(const json::value& input) {
  json::array items;
  if (input.is_string())
    items.push_back(json::object{{"role", "user"}, {"content", input}});
  else
    items = input.get_array();
  for (json::value& value : items) {
    json::object& item = value.get_object();
    const json::value* given = item.if_contains("type");
    // A copy: adding members moves the existing ones.
    const std::string type(given && given->is_string() ? std::string_view(given->get_string())
                                                       : "message");
    item["type"] = type;
    if (const json::value* id = item.if_contains("id"); !id || id->is_null()) {
      item["id"] = new_id(type == "message"         ? "msg_"
                          : type == "reasoning"     ? "rs_"
                          : type == "function_call" ? "fc_"
                                                    : "fco_");
    }
    if (const json::value* status = item.if_contains("status"); !status || status->is_null())
      item["status"] = "completed";
    if (type == "reasoning" && !item.contains("summary")) item["summary"] = json::array();
    if (type != "message") continue;
    // at(), not []: the latter may reallocate even if the member exists, which would lose
    // `content`.
    const bool is_answer = item.at("role").get_string() == "assistant";
    json::value& content = item.at("content");
    if (!content.is_string()) continue;
    json::object part{{"type", "input_text"}, {"text", std::move(content)}};
    if (is_answer) {
      part["type"] = "output_text";
      part["annotations"] = json::array();
    }
    content = json::array{std::move(part)};
  }
  return items;
}

}  // namespace mxgpt::server
