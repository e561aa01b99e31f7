// /v1/responses.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/escape.h"
#include "server/api/api_server.h"
#include "server/api/completion_pipeline.h"
#include "server/api/openai_chat/response_format.h"
#include "server/api/openai_responses/response_items.h"
#include "server/api/openai_responses/responses_schema.h"
#include "server/api/openai_responses/responses_writer.h"
#include "server/api/sampling_fields.h"

namespace mxgpt::server {

namespace {

chat::ToolConfig read_tools(const json::Node& body) {
  chat::ToolConfig tools;
  if (const auto list = body.find("tools")) tools.declare({list->raw(), "tools"});
  const auto choice = body.find("tool_choice");
  if (!choice) return tools;
  const std::string param = "tool_choice";
  if (choice->raw().is_string()) {
    if (choice->string() == "none") tools.disable();
    if (choice->string() == "required") tools.require_any(param);
  } else if ((*choice)["type"].string() == "function") {
    tools.require({std::string((*choice)["name"].string())}, param);
  } else {
    std::vector<std::string> names;
    const json::Node allowed = (*choice)["tools"];
    for (size_t i = 0; i < allowed.array().size(); ++i)
      names.emplace_back(allowed.at(i)["name"].string());
    tools.require(std::move(names), param);
    tools.call_required = (*choice)["mode"].string() == "required";
  }
  return tools;
}

chat::ResponseFormat read_format(const ServedModel& served, const json::Node& body) {
  const auto text = body.find("text");
  const auto format = text ? text->find("format") : std::nullopt;
  const std::string_view type = format ? (*format)["type"].string() : "text";
  if (type == "json_object")
    return chat::json_object_format(served.grammar_compiler(), "text.format");
  if (type == "json_schema") return json_schema_format(served, *format, "text.format");
  return {};
}

/// Appends the items of the previous responses. Throws ApiError, a 404, if one is not stored.
void read_previous(ResponseStore& store, const std::string& client, const std::string& id,
                   std::vector<chat::ChatItem>& items) {
  const auto chain = store.chain(client, id);
  if (chain.empty() || !chain.front().previous_id.empty()) {
    const std::string missing_id = chain.empty() ? id : chain.front().previous_id;
    throw ApiError(404,
                   fmt::format("previous_response_id: response '{}' is not stored",
                               escape_for_terminal(missing_id)),
                   "previous_response_id", "previous_response_not_found");
  }
  const std::string field = "previous_response_id";
  for (const StoredResponse& stored : chain) {
    const json::value input = json::parse(stored.input, "a stored response");
    read_items({input, field}, field, items);
    json::value response = json::parse(stored.response, "a stored response");
    json::array& output = response.get_object()["output"].get_array();
    // Drop truncated tool calls: they were never executed.
    const auto is_incomplete_call = [](const json::value& item) {
      return item.at("type") == "function_call" && item.at("status") == "incomplete";
    };
    output.erase(std::remove_if(output.begin(), output.end(), is_incomplete_call), output.end());
    read_items({response.at("output"), field}, field, items);
  }
}

json::value or_null(const json::Node& body, const char* field) {
  const auto node = body.find(field);
  return node ? node->raw() : json::value(nullptr);
}

/// The response object before generation: the fields that echo the request.
json::object make_response_object(const ServedModel& served, const json::Node& body,
                                  const chat::ChatRequest& chat, const SamplingFields& sampling,
                                  bool store) {
  json::object text{{"format", {{"type", "text"}}}, {"verbosity", "medium"}};
  if (const auto given = body.find("text"))
    for (const auto& [key, value] : given->object()) text[key] = value;
  const auto effort = chat.effort ? harmony::effort_name(*chat.effort) : "medium";
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
          {"top_logprobs", body.integer_or("top_logprobs", 0, 0, engine::kMaxTopLogprobs)},
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

StoredResponse find_stored_response(const RequestContext& context) {
  const std::string id(context.path_parameter);
  if (auto stored = context.api.store().get(context.request.client, id)) return std::move(*stored);
  throw ApiError(404, fmt::format("response '{}' is not stored", escape_for_terminal(id)));
}

/// The value of a parameter in "a=1&b=2"; empty if it is absent.
std::string_view query_parameter(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    if (pair.size() > name.size() && pair.starts_with(name) && pair[name.size()] == '=')
      return pair.substr(name.size() + 1);
  }
  return {};
}

HandlerResult create_response(const RequestContext& context) {
  const json::Node& body = context.body;
  const auto served = context.api.served_model(body);
  const SamplingFields sampling = read_sampling_fields(body);
  if (body.boolean_or("background", false)) {
    throw ApiError(400, "background: background mode is not supported", "background",
                   "unsupported_parameter");
  }
  if (sampling.include_usage) {
    throw ApiError(
        400, "stream_options.include_usage: is not supported; the final event always reports usage",
        "stream_options.include_usage", "unsupported_parameter");
  }
  chat::ChatRequest chat{.field = "input",
                         .tools = read_tools(body),
                         .format = read_format(*served, body),
                         .stops = sampling.stop_strings,
                         .truncate = body.string_or("truncation", "disabled") == "auto",
                         .sampling = sampling.params};
  const auto reasoning = body.find("reasoning");
  if (reasoning) {
    if (const auto effort = reasoning->find("effort"))
      chat.effort = harmony::effort_from_name(effort->string());
  }
  if (const auto instructions = body.find("instructions")) {
    chat.items.push_back({.kind = chat::ChatItem::Kind::instructions,
                          .text = std::string(instructions->string()),
                          .field = "instructions"});
  }
  const std::string& client = context.request.client;
  const std::string previous(body.string_or("previous_response_id", ""));
  if (!previous.empty()) read_previous(context.api.store(), client, previous, chat.items);
  const json::value input = normalize_items(body["input"].raw());
  read_items({input, "input"}, "input", chat.items);

  if (const auto limit = body.find("max_output_tokens"))
    chat.max_tokens = limit->integer(1, 1'000'000'000);
  const int64_t top = body.integer_or("top_logprobs", 0, 0, engine::kMaxTopLogprobs);
  const bool logprobs = top > 0 || includes_logprobs(body);
  if (logprobs) chat.top_logprobs = static_cast<int>(top);
  chat::PreparedChat prepared = served->prepare_chat(chat);
  prepared.request.priority = sampling.priority;
  prepared.request.deadline = context.api.request_deadline();

  const bool store = body.boolean_or("store", true);
  ResponsesWriter::Options options{
      .response = make_response_object(*served, body, chat, sampling, store),
      .stream = sampling.stream,
      .logprobs = logprobs};
  if (store) {
    options.store = &context.api.store();
    options.stored_response = {.id = std::string(options.response["id"].get_string()),
                               .client = client,
                               .previous_id = previous,
                               .input = json::serialize(input)};
  }
  std::vector<engine::Request> requests;
  requests.push_back(std::move(prepared.request));
  return run_completion(context, served, std::move(requests),
                        std::make_unique<ResponsesWriter>(
                            served, std::move(prepared.parsers.front()), std::move(options)),
                        sampling.stream);
}

HandlerResult get_response(const RequestContext& context) {
  const std::string_view stream = query_parameter(context.request.head.query, "stream");
  if (stream == "true" || stream == "True")
    throw ApiError(400, "stream: stored responses cannot be streamed", "stream");
  return HttpResponse{.body = find_stored_response(context).response};
}

HandlerResult delete_response(const RequestContext& context) {
  const std::string id(context.path_parameter);
  if (!context.api.store().erase(context.request.client, id))
    throw ApiError(404, fmt::format("response '{}' is not stored", escape_for_terminal(id)));
  return HttpResponse{
      .body = json::serialize(json::object{{"id", id}, {"object", "response"}, {"deleted", true}})};
}

HandlerResult list_input_items(const RequestContext& context) {
  const std::string_view query = context.request.head.query;
  const std::string_view limit_text = query_parameter(query, "limit");
  size_t limit = 20;
  if (!limit_text.empty()) {
    const auto [end, error] =
        std::from_chars(limit_text.data(), limit_text.data() + limit_text.size(), limit);
    if (error != std::errc() || end != limit_text.data() + limit_text.size() || limit < 1 ||
        limit > 100)
      throw ApiError(400, "limit: must be 1 to 100", "limit", "invalid_value");
  }
  json::value parsed = json::parse(find_stored_response(context).input, "a stored response");
  json::array& items = parsed.get_array();
  if (query_parameter(query, "order") != "asc") std::reverse(items.begin(), items.end());
  size_t first = 0;
  if (const std::string_view after = query_parameter(query, "after"); !after.empty()) {
    while (first < items.size() && items[first].at("id").get_string() != after) ++first;
    if (first == items.size()) throw ApiError(400, "after: unknown item", "after");
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

constexpr Route kRoutes[] = {
    {"POST", "/v1/responses", "Create a response", create_response, openai::kResponse},
    {"GET", "/v1/responses/{response}", "Get a stored response", get_response},
    {"DELETE", "/v1/responses/{response}", "Delete a stored response", delete_response},
    {"GET", "/v1/responses/{response}/input_items", "List the input items of a stored response",
     list_input_items},
};

}  // namespace

MXGPT_ROUTES(responses) = kRoutes;

}  // namespace mxgpt::server
