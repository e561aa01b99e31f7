// /v1/messages, as Anthropic's API has it.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/printable.h"
#include "server/api.h"
#include "server/dialog.h"
#include "server/generation.h"
#include "server/message_writer.h"
#include "server/sampling.h"

namespace mxgpt::server {

namespace {

using Kind = DialogItem::Kind;

constexpr Field kCacheControl =
    Field{"cache_control", kObject, "prompts are cached by themselves"}.unused();

constexpr Field kTextTable[] = {
    Field{"text", kString, "the text"}.needed(),
    Field{"citations", kArray, "of Anthropic's"}.unused(),
    kCacheControl,
};
constexpr Fields kTextFields = kTextTable;
constexpr Variant kTextOnlyTable[] = {{"text", &kTextFields}};
constexpr Variants kTextOnly = kTextOnlyTable;

constexpr Field kThinkingTable[] = {
    Field{"thinking", kString, "kept until the turn has ended in an answer"}.needed(),
    Field{"signature", kString, "of Anthropic's"}.unused(),
    kCacheControl,
};
constexpr Fields kThinkingFields = kThinkingTable;

constexpr Field kToolUseTable[] = {
    Field{"id", kString, "that the result names"}.needed(),
    Field{"name", kString, "the tool"}.needed(),
    Field{"input", kObject, "its arguments"}.needed(),
    Field{"caller", kObject, "of Anthropic's"}.unused(),
    kCacheControl,
};
constexpr Fields kToolUseFields = kToolUseTable;

constexpr Field kToolResultTable[] = {
    Field{"tool_use_id", kString, "the call that it answers"}.needed(),
    Field{"content", kString | kArray, "a text, or blocks"}.each(kObject).by_type(&kTextOnly),
    Field{"is_error", kBoolean, "gpt-oss reads it from the content"}.unused(),
    kCacheControl,
};
constexpr Fields kToolResultFields = kToolResultTable;

constexpr Variant kBlockTable[] = {{"text", &kTextFields},
                                   {"thinking", &kThinkingFields},
                                   {"tool_use", &kToolUseFields},
                                   {"tool_result", &kToolResultFields}};
constexpr Variants kBlockVariants = kBlockTable;

constexpr Field kMessageTable[] = {
    Field{"role", kString, "who speaks"}.one_of("user|assistant").needed(),
    Field{"content", kString | kArray, "a text, or blocks"}
        .each(kObject)
        .by_type(&kBlockVariants)
        .needed(),
};
constexpr Fields kMessageFields = kMessageTable;

constexpr Field kToolTable[] = {
    Field{"name", kString, "letters, digits, _ and -"}.needed(),
    {"description", kString, "what it does"},
    Field{"input_schema", kObject, "JSON Schema of its arguments"}.needed(),
    Field{"strict", kBoolean, "arguments always hold to the schema here"}.unused(),
    Field{"eager_input_streaming", kBoolean, "arguments always come as they are made"}.unused(),
    kCacheControl,
};
constexpr Fields kToolFields = kToolTable;
constexpr Variant kToolVariantTable[] = {{"custom", &kToolFields}};
constexpr Variants kToolVariants = kToolVariantTable;

constexpr Field kParallel =
    Field{"disable_parallel_tool_use", kBoolean, "gpt-oss makes one call at a time"}.unused();
constexpr Field kChoiceTable[] = {kParallel};
constexpr Fields kChoiceFields = kChoiceTable;
constexpr Field kNamedTable[] = {Field{"name", kString, "the tool"}.needed(), kParallel};
constexpr Fields kNamedFields = kNamedTable;
constexpr Variant kToolChoiceTable[] = {{"auto", &kChoiceFields},
                                        {"any", &kChoiceFields},
                                        {"tool", &kNamedFields},
                                        {"none", &kChoiceFields}};
constexpr Variants kToolChoiceVariants = kToolChoiceTable;

constexpr Field kDisplay =
    Field{"display", kString, "omitted: thinking is not shown"}.one_of("summarized|omitted");
constexpr Field kEnabledTable[] = {
    Field{"budget_tokens", kInteger, "below 4096 low effort, below 16384 medium, else high", 1, 1e9}
        .needed(),
    kDisplay,
};
constexpr Fields kEnabledFields = kEnabledTable;
constexpr Field kAdaptiveTable[] = {kDisplay};
constexpr Fields kAdaptiveFields = kAdaptiveTable;
constexpr Fields kNoFields{};
constexpr Variant kThinkingChoiceTable[] = {
    {"enabled", &kEnabledFields}, {"adaptive", &kAdaptiveFields}, {"disabled", &kNoFields}};
constexpr Variants kThinkingVariants = kThinkingChoiceTable;

constexpr Field kSchemaTable[] = {Field{"schema", kObject, "JSON Schema"}.needed()};
constexpr Fields kSchemaFields = kSchemaTable;
constexpr Variant kFormatTable[] = {{"json_schema", &kSchemaFields}};
constexpr Variants kFormatVariants = kFormatTable;
constexpr Field kOutputTable[] = {
    Field{"effort", kString, "how much gpt-oss reasons; above high it knows none"}.one_of(
        "low|medium|high|xhigh|max"),
    Field{"format", kObject, "what the answer must be; thinking stays free"}.by_type(
        &kFormatVariants),
};
constexpr Fields kOutputFields = kOutputTable;

constexpr Field kPromptTable[] = {
    Field{"messages", kArray, "the conversation"}.each(kObject).of(&kMessageFields).needed(),
    Field{"model", kString, "the model's name; default: the one there is"},
    Field{"system", kString | kArray, "the system prompt"}.each(kObject).by_type(&kTextOnly),
    Field{"tools", kArray, "functions that the model may call"}
        .at_most(128)
        .each(kObject)
        .by_type(&kToolVariants)
        .untyped(),
    Field{"tool_choice", kObject, "whether and what it calls"}.by_type(&kToolChoiceVariants),
    Field{"thinking", kObject, "whether thinking is shown, and how much there is"}.by_type(
        &kThinkingVariants),
    Field{"output_config", kObject, "about the answer"}.of(&kOutputFields),
    kCacheControl,
};

const auto kMessagesTable = with_sampling(
    joined(kPromptTable, {
                             Field{"max_tokens", kInteger, "thinking included", 1, 1e9}.needed(),
                             Field{"stop_sequences", kArray, "the answer ends before these texts"}
                                 .at_most(kMaxStops)
                                 .each(kString),
                             Field{"metadata", kObject, "for the client's own use"}.unused(),
                             Field{"service_tier", kString, "of Anthropic's"}.unused(),
                         }));

std::string text_of(const json::Node& content) {
  if (content.raw().is_string()) return std::string(content.string());
  std::string text;
  for (size_t i = 0; i < content.array().size(); ++i) {
    if (i > 0) text += "\n\n";
    text += content.at(i)["text"].string();
  }
  return text;
}

[[noreturn]] void fail(const json::Node& node, const std::string& what) {
  throw ApiError(400, fmt::format("{}: {}", node.path(), what), node.path(), "invalid_value");
}

/// Blocks of text that follow each other are one.
void add_text(std::vector<DialogItem>& items, size_t first, Kind kind, const std::string& text,
              const std::string& field) {
  if (items.size() > first && items.back().kind == kind) {
    items.back().text += "\n\n" + text;
  } else {
    items.push_back({.kind = kind, .text = text, .field = field});
  }
}

void read_message(const json::Node& message, std::vector<DialogItem>& items) {
  const bool is_user = message["role"].string() == "user";
  const json::Node content = message["content"];
  if (content.raw().is_string()) {
    items.push_back({.kind = is_user ? Kind::user : Kind::answer,
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
               : calls ? Kind::preamble
                       : Kind::answer,
               std::string(block["text"].string()), block.path());
    } else if (type == "tool_result") {
      if (!is_user) fail(block, "is the user's to give");
      const auto result = block.find("content");
      items.push_back({.kind = Kind::result,
                       .text = result ? text_of(*result) : "",
                       .field = block.path() + ".tool_use_id",
                       .id = std::string(block["tool_use_id"].string())});
    } else if (is_user) {
      fail(block, "is the assistant's to say");
    } else if (type == "thinking") {
      const std::string_view thinking = block["thinking"].string();
      if (!thinking.empty()) {
        items.push_back(
            {.kind = Kind::reasoning, .text = std::string(thinking), .field = block.path()});
      }
    } else {
      items.push_back({.kind = Kind::call,
                       .text = json::serialize(block["input"].raw()),
                       .field = block.path(),
                       .id = std::string(block["id"].string()),
                       .name = std::string(block["name"].string())});
    }
  }
}

DialogTools read_tools(const json::Node& body) {
  DialogTools tools;
  if (const auto list = body.find("tools")) {
    json::array functions;
    for (const json::value& tool : list->array()) {
      json::object function = tool.get_object();
      function["parameters"] = function["input_schema"];
      functions.push_back(std::move(function));
    }
    const json::value value = std::move(functions);
    tools.describe({value, "tools"});
  }
  const auto choice = body.find("tool_choice");
  const std::string_view type = choice ? (*choice)["type"].string() : "auto";
  if (type == "none") tools.forbid();
  if (type == "any") tools.demand_any("tool_choice");
  if (type == "tool") tools.demand({std::string((*choice)["name"].string())}, "tool_choice");
  return tools;
}

/// What the client wants to see of thinking, and how much there should be of it.
struct Thinking {
  bool shown = false;
  harmony::ReasoningEffort effort = harmony::ReasoningEffort::kLow;
};

Thinking read_thinking(const json::Node& body) {
  using harmony::ReasoningEffort;
  Thinking out;
  const auto thinking = body.find("thinking");
  const std::string_view type = thinking ? (*thinking)["type"].string() : "disabled";
  if (type != "disabled") {
    out.shown = thinking->string_or("display", "summarized") != "omitted";
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

Dialog read_dialog(const Served& served, const json::Node& body) {
  Dialog dialog{.field = "messages", .tools = read_tools(body)};
  if (const auto system = body.find("system")) {
    dialog.items.push_back(
        {.kind = Kind::instructions, .text = text_of(*system), .field = "system"});
  }
  const json::Node messages(body["messages"].raw(), "messages");
  for (size_t i = 0; i < messages.array().size(); ++i) read_message(messages.at(i), dialog.items);
  if (!messages.array().empty()) {
    const json::Node last = messages.at(messages.array().size() - 1);
    if (last["role"].string() == "assistant")
      fail(last["role"], "an answer cannot be begun for the model; the last message is the user's");
  }
  const auto output = body.find("output_config");
  if (const auto format = output ? output->find("format") : std::nullopt) {
    const json::value named =
        json::object{{"name", "answer"}, {"schema", (*format)["schema"].raw()}};
    dialog.format = json_schema_format(served, {named, ""}, "output_config.format");
  }
  if (served.harmony()) dialog.effort = read_thinking(body).effort;
  return dialog;
}

}  // namespace

const Fields kMessagesFields = kMessagesTable;
const Fields kCountTokensFields = kPromptTable;

Answer messages(Call& call) {
  const json::Node& body = call.body;
  const auto served = call.api.served(body);
  const Sampling sampling = read_sampling(body);
  if (sampling.include_usage) {
    throw ApiError(400, "stream_options.include_usage: the last events have the usage always",
                   "stream_options.include_usage", "unsupported_parameter");
  }
  Dialog dialog = read_dialog(*served, body);
  dialog.stops = sampling.stops;
  if (const auto stops = body.find("stop_sequences"))
    for (std::string& stop : read_stops(*stops, "stop_sequences"))
      dialog.stops.push_back(std::move(stop));
  const int64_t max_tokens = body["max_tokens"].integer(1, 1'000'000'000);
  Request request{.max_tokens = max_tokens,
                  .sampling = sampling.params,
                  .priority = sampling.priority,
                  .deadline = call.api.deadline()};
  auto readers = begin_dialog(*served, dialog, request);
  const MessageWriter::Options options{.stream = sampling.stream,
                                       .thinking = read_thinking(body).shown,
                                       .prompt_tokens = static_cast<int64_t>(request.prompt.size()),
                                       .max_tokens = max_tokens};
  std::vector<Request> requests;
  requests.push_back(std::move(request));
  return generate(served, call.api.metrics(), std::move(requests),
                  std::make_unique<MessageWriter>(served, std::move(readers.front()), options),
                  sampling.stream);
}

Answer count_tokens(Call& call) {
  const auto served = call.api.served(call.body);
  Request request;
  begin_dialog(*served, read_dialog(*served, call.body), request);
  return HttpResponse{.body =
                          json::serialize(json::object{{"input_tokens", request.prompt.size()}})};
}

}  // namespace mxgpt::server
