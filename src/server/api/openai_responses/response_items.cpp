#include "server/api/openai_responses/response_items.h"

#include <fmt/format.h>

#include <utility>

#include "server/api/api_error.h"
#include "server/api/completion_pipeline.h"

namespace mxgpt::server {

namespace {

constexpr Field kId{"id", kString, "of the item"};
constexpr Field kStatus =
    Field{"status", kString, "how far it came"}.enum_("in_progress|completed|incomplete");

constexpr Field kTextTable[] = {
    Field{"text", kString, "the text"}.required(),
    Field{"annotations", kArray, "of OpenAI's"}.ignored(),
    Field{"logprobs", kArray, "of answers"}.ignored(),
    Field{"parsed", 0, "of clients"}.ignored(),
};
constexpr Schema kTextFields = kTextTable;
constexpr Field kRefusalTable[] = {Field{"refusal", kString, "the text"}.required()};
constexpr Schema kRefusalFields = kRefusalTable;
constexpr Variant kPartTable[] = {
    {"input_text", &kTextFields}, {"output_text", &kTextFields}, {"refusal", &kRefusalFields}};
constexpr Variants kPartVariants = kPartTable;

constexpr Field kMessageTable[] = {
    Field{"role", kString, "who speaks"}.enum_("user|assistant|system|developer").required(),
    Field{"content", kString | kArray, "a text, or parts"}
        .items(kObject)
        .any_of(&kPartVariants)
        .required(),
    Field{"phase", kString, "of the assistant: commentary is said before a call"}.enum_(
        "commentary|final_answer"),
    kId,
    kStatus,
};
constexpr Schema kMessageSchema = kMessageTable;

constexpr Variant kSummaryTable[] = {{"summary_text", &kTextFields}};
constexpr Variants kSummaryVariants = kSummaryTable;
constexpr Variant kReasoningTextTable[] = {{"reasoning_text", &kTextFields}};
constexpr Variants kReasoningTextVariants = kReasoningTextTable;

constexpr Field kReasoningTable[] = {
    Field{"summary", kArray, "taken where there is no content"}.items(kObject).any_of(
        &kSummaryVariants),
    Field{"content", kArray, "kept until the turn has ended in an answer"}.items(kObject).any_of(
        &kReasoningTextVariants),
    Field{"encrypted_content", kString, "of OpenAI's"}.ignored(),
    kId,
    kStatus,
};
constexpr Schema kReasoningFields = kReasoningTable;

constexpr Field kCallTable[] = {
    Field{"call_id", kString, "that the output names"}.required(),
    Field{"name", kString, "the function"}.required(),
    Field{"arguments", kString, "JSON, as text"}.required(),
    Field{"parsed_arguments", 0, "of clients"}.ignored(),
    kId,
    kStatus,
};
constexpr Schema kCallFields = kCallTable;

constexpr Field kOutputTable[] = {
    Field{"call_id", kString, "the call that it answers"}.required(),
    Field{"output", kString | kArray, "a text, or parts"}
        .items(kObject)
        .any_of(&kPartVariants)
        .required(),
    kId,
    kStatus,
};
constexpr Schema kOutputFields = kOutputTable;

constexpr Variant kItemTable[] = {{"message", &kMessageSchema},
                                  {"reasoning", &kReasoningFields},
                                  {"function_call", &kCallFields},
                                  {"function_call_output", &kOutputFields}};

std::string text_of(const json::Node& content) {
  if (content.raw().is_string()) return std::string(content.string());
  std::string text;
  for (size_t i = 0; i < content.array().size(); ++i) {
    const json::Node part = content.at(i);
    text += part.string_or("text", part.string_or("refusal", ""));
  }
  return text;
}

/// Whether the assistant goes on to a call behind item `i`.
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

const Variants kItemVariants = kItemTable;

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
    // A copy: members that are added move those that are there.
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
    // Not by [], which makes room for one more even where the member is: `content` would be lost.
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
