// /v1/responses.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/printable.h"
#include "server/api.h"
#include "server/generation.h"
#include "server/response_items.h"
#include "server/response_writer.h"
#include "server/sampling.h"

namespace mxgpt::server {

namespace {

constexpr Field kFunctionTable[] = {
    Field{"name", kString, "letters, digits, _ and -"}.needed(),
    {"description", kString, "what it does"},
    {"parameters", kObject, "JSON Schema of its arguments"},
    Field{"strict", kBoolean, "arguments always hold to the schema here"}.unused(),
};
constexpr Fields kFunctionFields = kFunctionTable;
constexpr Variant kToolTable[] = {{"function", &kFunctionFields}};
constexpr Variants kToolVariants = kToolTable;

constexpr Field kNamedTable[] = {Field{"name", kString, "the function"}.needed()};
constexpr Fields kNamedFields = kNamedTable;
constexpr Variant kNamedToolTable[] = {{"function", &kNamedFields}};
constexpr Variants kNamedToolVariants = kNamedToolTable;
constexpr Field kAllowedTable[] = {
    Field{"mode", kString, "whether one of them must be called"}.one_of("auto|required").needed(),
    Field{"tools", kArray, "those that may be called"}
        .each(kObject)
        .by_type(&kNamedToolVariants)
        .needed(),
};
constexpr Fields kAllowedFields = kAllowedTable;
constexpr Variant kToolChoiceTable[] = {{"function", &kNamedFields},
                                        {"allowed_tools", &kAllowedFields}};
constexpr Variants kToolChoiceVariants = kToolChoiceTable;

constexpr Field kSchemaTable[] = {
    Field{"name", kString, "what the model knows it by"}.at_most(64).needed(),
    {"description", kString, "told to the model"},
    Field{"schema", kObject, "JSON Schema"}.needed(),
    Field{"strict", kBoolean, "answers always hold to the schema here"}.unused(),
};
constexpr Fields kSchemaFields = kSchemaTable;
constexpr Fields kNoFields{};
constexpr Variant kFormatTable[] = {
    {"text", &kNoFields}, {"json_object", &kNoFields}, {"json_schema", &kSchemaFields}};
constexpr Variants kFormatVariants = kFormatTable;

constexpr Field kTextTable[] = {
    Field{"format", kObject, "what the answer must be; reasoning stays free"}.by_type(
        &kFormatVariants),
    Field{"verbosity", kString, "gpt-oss has no such setting"}.one_of("low|medium|high").unused(),
};
constexpr Fields kTextFields = kTextTable;

constexpr Field kReasoningTable[] = {
    Field{"effort", kString, "how much gpt-oss reasons"}.one_of("low|medium|high"),
    Field{"summary", kString, "reasoning comes as it is"}.unused(),
    Field{"generate_summary", kString, "older name of summary"}.unused(),
};
constexpr Fields kReasoningFields = kReasoningTable;

const auto kResponsesTable = with_sampling({
    Field{"input", kString | kArray, "what the user says, or items"}
        .each(kObject)
        .by_type(&kItemVariants)
        .untyped()
        .needed(),
    Field{"model", kString, "the model's name; default: the one there is"},
    Field{"instructions", kString, "the system prompt, of this response alone"},
    Field{"previous_response_id", kString, "the response that this one goes on from"}.at_most(256),
    Field{"store", kBoolean, "keep the response; default true"},
    Field{"max_output_tokens", kInteger, "reasoning included; default: until the context is full",
          1, 1e9},
    Field{"tools", kArray, "functions that the model may call"}.at_most(128).each(kObject).by_type(
        &kToolVariants),
    Field{"tool_choice", kString | kObject, "whether and what it calls"}
        .one_of("auto|none|required")
        .by_type(&kToolChoiceVariants),
    Field{"parallel_tool_calls", kBoolean, "a permission: gpt-oss makes one call at a time"}
        .unused(),
    Field{"text", kObject, "about the answer"}.of(&kTextFields),
    Field{"reasoning", kObject, "about reasoning"}.of(&kReasoningFields),
    Field{"truncation", kString, "auto: leave out the oldest turns if the prompt is too long"}
        .one_of("auto|disabled"),
    Field{"include", kArray, "message.output_text.logprobs; others have no effect"}
        .at_most(16)
        .each(kString),
    Field{"top_logprobs", kInteger, "log-probabilities of each token, and of so many others", 0,
          kMaxTopLogprobs},
    Field{"metadata", kObject, "kept with the response"},
    Field{"background", kBoolean, "only false"},
    Field{"service_tier", kString, "of OpenAI's"}.unused(),
    Field{"safety_identifier", kString, "of OpenAI's"}.unused(),
    Field{"prompt_cache_key", kString, "prompts are cached by themselves"}.unused(),
    Field{"prompt_cache_retention", kString, "of OpenAI's"}.unused(),
});

DialogTools read_tools(const json::Node& body) {
  DialogTools tools;
  if (const auto list = body.find("tools")) tools.describe({list->raw(), "tools"});
  const auto choice = body.find("tool_choice");
  if (!choice) return tools;
  const std::string param = "tool_choice";
  if (choice->raw().is_string()) {
    if (choice->string() == "none") tools.forbid();
    if (choice->string() == "required") tools.demand_any(param);
  } else if ((*choice)["type"].string() == "function") {
    tools.demand({std::string((*choice)["name"].string())}, param);
  } else {
    std::vector<std::string> names;
    const json::Node allowed = (*choice)["tools"];
    for (size_t i = 0; i < allowed.array().size(); ++i)
      names.emplace_back(allowed.at(i)["name"].string());
    tools.demand(std::move(names), param);
    tools.must_call = (*choice)["mode"].string() == "required";
  }
  return tools;
}

ResponseFormat read_format(const Served& served, const json::Node& body) {
  const auto text = body.find("text");
  const auto format = text ? text->find("format") : std::nullopt;
  const std::string_view type = format ? (*format)["type"].string() : "text";
  if (type == "json_object") return json_object_format(served, "text.format");
  if (type == "json_schema") return json_schema_format(served, *format, "text.format");
  return {};
}

/// Appends what was said before. Throws ApiError, a 404, if it is not kept.
void read_previous(ResponseStore& store, const std::string& client, const std::string& id,
                   std::vector<DialogItem>& items) {
  const auto chain = store.chain(client, id);
  if (chain.empty() || !chain.front().previous.empty()) {
    const std::string gone = chain.empty() ? id : chain.front().previous;
    throw ApiError(
        404,
        fmt::format("previous_response_id: the response '{}' is not kept here", printable(gone)),
        "previous_response_id", "previous_response_not_found");
  }
  const std::string field = "previous_response_id";
  for (const StoredResponse& stored : chain) {
    const json::value input = json::parse(stored.input, "a stored response");
    read_items({input, field}, field, items);
    json::value response = json::parse(stored.response, "a stored response");
    json::array& output = response.get_object()["output"].get_array();
    // A call that was cut off was never made.
    const auto is_cut = [](const json::value& item) {
      return item.at("type") == "function_call" && item.at("status") == "incomplete";
    };
    output.erase(std::remove_if(output.begin(), output.end(), is_cut), output.end());
    read_items({response.at("output"), field}, field, items);
  }
}

json::value or_null(const json::Node& body, const char* field) {
  const auto node = body.find(field);
  return node ? node->raw() : json::value(nullptr);
}

/// What a response says of its request.
json::object echo(const Served& served, const json::Node& body, const Dialog& dialog,
                  const Sampling& sampling, bool store) {
  json::object text{{"format", {{"type", "text"}}}, {"verbosity", "medium"}};
  if (const auto given = body.find("text"))
    for (const auto& [key, value] : given->object()) text[key] = value;
  const auto effort = dialog.effort ? harmony::effort_name(*dialog.effort) : "medium";
  const auto choice = body.find("tool_choice");
  const auto tools = body.find("tools");
  const auto metadata = body.find("metadata");
  return {{"id", new_id("resp_")},
          {"object", "response"},
          {"created_at", unix_time()},
          {"completed_at", nullptr},
          {"status", "in_progress"},
          {"background", false},
          {"error", nullptr},
          {"incomplete_details", nullptr},
          {"instructions", or_null(body, "instructions")},
          {"max_output_tokens", or_null(body, "max_output_tokens")},
          {"max_tool_calls", nullptr},
          {"model", served.name()},
          {"output", json::array()},
          {"parallel_tool_calls", body.boolean_or("parallel_tool_calls", true)},
          {"previous_response_id", or_null(body, "previous_response_id")},
          {"prompt_cache_key", or_null(body, "prompt_cache_key")},
          {"reasoning", {{"effort", effort}, {"summary", nullptr}}},
          {"safety_identifier", or_null(body, "safety_identifier")},
          {"service_tier", "default"},
          {"store", store},
          {"temperature", sampling.params.temperature},
          {"text", std::move(text)},
          {"tool_choice", choice ? choice->raw() : json::value("auto")},
          {"tools", tools ? tools->raw() : json::value(json::array())},
          {"top_logprobs", body.integer_or("top_logprobs", 0, 0, kMaxTopLogprobs)},
          {"top_p", sampling.params.top_p},
          {"truncation", body.string_or("truncation", "disabled")},
          {"usage", nullptr},
          {"user", or_null(body, "user")},
          {"metadata", metadata ? metadata->raw() : json::value(json::object())}};
}

bool includes_logprobs(const json::Node& body) {
  const auto include = body.find("include");
  if (!include) return false;
  const json::array& names = include->array();
  return std::find(names.begin(), names.end(), json::value("message.output_text.logprobs")) !=
         names.end();
}

StoredResponse find(Call& call) {
  const std::string id(call.parameter);
  if (auto stored = call.api.store().get(call.request.client, id)) return std::move(*stored);
  throw ApiError(404, fmt::format("the response '{}' is not kept here", printable(id)));
}

/// The value of a parameter in "a=1&b=2"; empty if it is not there.
std::string_view parameter_of(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::string_view one = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), one.size() + 1));
    if (one.size() > name.size() && one.starts_with(name) && one[name.size()] == '=')
      return one.substr(name.size() + 1);
  }
  return {};
}

}  // namespace

const Fields kResponsesFields = kResponsesTable;

Answer responses(Call& call) {
  const json::Node& body = call.body;
  const auto served = call.api.served(body);
  const Sampling sampling = read_sampling(body);
  if (body.boolean_or("background", false)) {
    throw ApiError(400, "background: there is no work without a client", "background",
                   "unsupported_parameter");
  }
  if (sampling.include_usage) {
    throw ApiError(400, "stream_options.include_usage: the last event has the usage always",
                   "stream_options.include_usage", "unsupported_parameter");
  }
  Dialog dialog{.field = "input",
                .tools = read_tools(body),
                .format = read_format(*served, body),
                .stops = sampling.stops,
                .truncate = body.string_or("truncation", "disabled") == "auto"};
  const auto reasoning = body.find("reasoning");
  if (reasoning) {
    if (const auto effort = reasoning->find("effort"))
      dialog.effort = harmony::effort_from_name(effort->string());
  }
  if (const auto instructions = body.find("instructions")) {
    dialog.items.push_back({.kind = DialogItem::Kind::instructions,
                            .text = std::string(instructions->string()),
                            .field = "instructions"});
  }
  const std::string& client = call.request.client;
  const std::string previous(body.string_or("previous_response_id", ""));
  if (!previous.empty()) read_previous(call.api.store(), client, previous, dialog.items);
  const json::value input = normal_items(body["input"].raw());
  read_items({input, "input"}, "input", dialog.items);

  Request request{
      .sampling = sampling.params, .priority = sampling.priority, .deadline = call.api.deadline()};
  if (const auto most = body.find("max_output_tokens"))
    request.max_tokens = most->integer(1, 1'000'000'000);
  const int64_t top = body.integer_or("top_logprobs", 0, 0, kMaxTopLogprobs);
  const bool logprobs = top > 0 || includes_logprobs(body);
  if (logprobs) request.top_logprobs = static_cast<int>(top);
  auto readers = begin_dialog(*served, dialog, request);

  const bool store = body.boolean_or("store", true);
  ResponseWriter::Options options{.response = echo(*served, body, dialog, sampling, store),
                                  .stream = sampling.stream,
                                  .logprobs = logprobs};
  if (store) {
    options.store = &call.api.store();
    options.stored = {.id = std::string(options.response["id"].get_string()),
                      .client = client,
                      .previous = previous,
                      .input = json::serialize(input)};
  }
  std::vector<Request> requests;
  requests.push_back(std::move(request));
  return generate(
      served, call.api.metrics(), std::move(requests),
      std::make_unique<ResponseWriter>(served, std::move(readers.front()), std::move(options)),
      sampling.stream);
}

Answer response(Call& call) {
  const std::string_view stream = parameter_of(call.request.head.query, "stream");
  if (stream == "true" || stream == "True")
    throw ApiError(400, "stream: a response that is kept comes whole", "stream");
  return HttpResponse{.body = find(call).response};
}

Answer delete_response(Call& call) {
  const std::string id(call.parameter);
  if (!call.api.store().erase(call.request.client, id))
    throw ApiError(404, fmt::format("the response '{}' is not kept here", printable(id)));
  return HttpResponse{
      .body = json::serialize(json::object{{"id", id}, {"object", "response"}, {"deleted", true}})};
}

Answer response_input(Call& call) {
  const std::string_view query = call.request.head.query;
  const std::string_view limit_text = parameter_of(query, "limit");
  size_t limit = 20;
  if (!limit_text.empty()) {
    const auto [end, error] =
        std::from_chars(limit_text.data(), limit_text.data() + limit_text.size(), limit);
    if (error != std::errc() || end != limit_text.data() + limit_text.size() || limit < 1 ||
        limit > 100)
      throw ApiError(400, "limit: should be 1 to 100", "limit", "invalid_value");
  }
  json::value parsed = json::parse(find(call).input, "a stored response");
  json::array& items = parsed.get_array();
  if (parameter_of(query, "order") != "asc") std::reverse(items.begin(), items.end());
  size_t first = 0;
  if (const std::string_view after = parameter_of(query, "after"); !after.empty()) {
    while (first < items.size() && items[first].at("id").get_string() != after) ++first;
    if (first == items.size()) throw ApiError(400, "after: there is no such item", "after");
    ++first;
  }
  const size_t last = std::min(items.size(), first + limit);
  json::array page(items.begin() + static_cast<int64_t>(first),
                   items.begin() + static_cast<int64_t>(last));
  json::object out{{"object", "list"},
                   {"first_id", page.empty() ? json::value(nullptr) : page.front().at("id")},
                   {"last_id", page.empty() ? json::value(nullptr) : page.back().at("id")},
                   {"has_more", last < items.size()}};
  out["data"] = std::move(page);
  return HttpResponse{.body = json::serialize(out)};
}

}  // namespace mxgpt::server
