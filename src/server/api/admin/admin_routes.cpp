// Routes that only tell or translate.
#include <fmt/format.h>

#include "base/escape.h"
#include "base/version.h"
#include "server/api/admin/health.h"
#include "server/api/api_error.h"
#include "server/api/api_server.h"
#include "server/api/completion_pipeline.h"

namespace mxgpt::server {

namespace {

constexpr Field kTokenizeTable[] = {
    Field{"text", kString, "what to encode"}.required(),
    {"add_special_tokens", kBoolean, "whether BOS and the like are added; default false"},
    {"parse_special", kBoolean,
     "whether control tokens spelled out in the text become their ids; default false"},
    {"model", kString, "the model's name"},
};

constexpr Field kDetokenizeTable[] = {
    Field{"tokens", kArray, "ids"}.items(kInteger).required(),
    {"skip_special_tokens", kBoolean, "whether control tokens are left out; default false"},
    {"model", kString, "the model's name"},
};

HttpResponse json_response(const json::value& value) {
  return {.body = json::serialize(value)};
}

json::object describe(const ServedModel& served) {
  return {{"id", served.name()},
          {"object", "model"},
          {"created", 0},
          {"owned_by", "mxgpt"},
          {"context_length", served.engine().context()}};
}

}  // namespace

const Schema kTokenizeSchema = kTokenizeTable;
const Schema kDetokenizeSchema = kDetokenizeTable;

HandlerResult list_models(RequestContext& context) {
  json::array list;
  list.push_back(describe(*context.api.served_model()));
  return json_response(json::object{{"object", "list"}, {"data", std::move(list)}});
}

HandlerResult get_model(RequestContext& context) {
  const auto served = context.api.served_model();
  if (context.path_parameter != served->name())
    throw ApiError(404, "there is no such model here", "model", "model_not_found");
  return json_response(describe(*served));
}

HandlerResult tokenize(RequestContext& context) {
  const auto served = context.api.served_model(context.body);
  const auto ids = served->tokenizer()->encode(
      context.body["text"].string(),
      {.add_special_tokens = context.body.boolean_or("add_special_tokens", false),
       .parse_special = context.body.boolean_or("parse_special", false)});
  return json_response(
      json::object{{"tokens", json::array(ids.begin(), ids.end())}, {"count", ids.size()}});
}

HandlerResult detokenize(RequestContext& context) {
  const auto served = context.api.served_model(context.body);
  const json::Node tokens = context.body["tokens"];
  std::vector<text::TokenId> ids;
  for (size_t i = 0; i < tokens.array().size(); ++i) {
    ids.push_back(
        static_cast<text::TokenId>(tokens.at(i).integer(0, served->tokenizer()->vocab_size() - 1)));
  }
  return json_response(
      json::object{{"text", served->tokenizer()->decode(
                                ids, context.body.boolean_or("skip_special_tokens", false))}});
}

HandlerResult get_metrics(RequestContext& context) {
  const auto served = context.api.served_model_or_null();
  HttpResponse response{.content_type = "text/plain; version=0.0.4"};
  std::vector<Metrics::Gauge> gauges{
      {"mxgpt_uptime_seconds", "Since the server began",
       static_cast<int64_t>(context.api.uptime())},
      {"mxgpt_resident_bytes", "Of this program in the host's memory", resident_bytes()},
      {"mxgpt_loaded", "Whether the model is there", served ? 1 : 0}};
  const ResponseStore::Status stored = context.api.store().status();
  gauges.push_back({"mxgpt_stored_responses", "Kept for clients to go on from", stored.count});
  gauges.push_back({"mxgpt_stored_bytes", "Of them", stored.bytes});
  gauges.push_back({"mxgpt_store_failures", "Responses that could not be kept", stored.failed});
  std::optional<engine::EngineStatus> status;
  if (served) {
    status = served->engine().status();
    const chat::GrammarCompiler::CacheStats grammars = served->grammar_compiler().cache_stats();
    gauges.push_back({"mxgpt_grammars", "Compiled and kept", static_cast<int64_t>(grammars.count)});
    gauges.push_back(
        {"mxgpt_grammars_bytes", "About, that they take", static_cast<int64_t>(grammars.bytes)});
    gauges.push_back({"mxgpt_planned_bytes", "Of the device's memory",
                      planned_memory(*served, *status).total()});
  }
  response.body = context.api.metrics().render(status ? &*status : nullptr, gauges);
  return response;
}

HandlerResult get_openapi(RequestContext&) {
  json::object paths;
  for (const Route& route : ApiServer::routes()) {
    json::object responses{{"200", {{"description", "the answer"}}}};
    json::object operation{{"summary", route.summary}};
    if (route.request_schema) {
      operation["requestBody"] = {
          {"required", true},
          {"content", {{"application/json", {{"schema", to_json_schema(*route.request_schema)}}}}}};
      for (const auto& [code, what] : {std::pair{"400", "a field is wrong; the error names it"},
                                       {"404", "there is no such model, or no such response"},
                                       {"408", "the answer took longer than the server allows"},
                                       {"413", "the body is too large"},
                                       {"422", "the model broke off"},
                                       {"429", "too many requests; Retry-After says when"}})
        responses[code] = {{"description", what}};
    }
    responses["403"] = {{"description", "pages of other origins may not call"}};
    if (!route.is_public) {
      responses["401"] = {{"description", "no valid API key"}};
      // Or none, where the server was given no keys.
      operation["security"] = json::array{json::object{{"key", json::array()}}, json::object()};
    }
    responses["503"] = {{"description", "the model is loading, or the server is shutting down"}};
    const std::string_view path = route.path;
    if (const size_t open = path.find('{'); open != path.npos) {
      const std::string_view name = path.substr(open + 1, path.find('}') - open - 1);
      responses["404"] = {{"description", fmt::format("there is no such {}", name)}};
      operation["parameters"] = {
          {{"name", name}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}}};
    }
    operation["responses"] = std::move(responses);
    json::value& path_item = paths[path];
    if (!path_item.is_object()) path_item.emplace_object();
    const std::string_view method = route.method;
    path_item.get_object()[method == "GET"    ? "get"
                           : method == "POST" ? "post"
                                              : "delete"] = std::move(operation);
  }
  return json_response(json::object{
      {"openapi", "3.1.0"},
      {"info", {{"title", "mxgpt"}, {"version", version()}}},
      {"components", {{"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}},
      {"paths", std::move(paths)}});
}

HandlerResult get_status_page(RequestContext& context) {
  const auto served = context.api.served_model_or_null();
  std::string rows;
  const auto row = [&](std::string_view name, const std::string& value) {
    std::string safe;
    for (const char c : value) safe += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
    rows += fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", name, safe);
  };
  row("Version", version());
  row("Uptime", fmt::format("{:.0f} s", context.api.uptime()));
  if (served) {
    const engine::EngineStatus status = served->engine().status();
    const std::string reason = degraded_reason(status, context.api.store().status());
    const MemoryBreakdown planned = planned_memory(*served, status);
    const auto size = [](int64_t bytes) { return format_bytes(static_cast<uint64_t>(bytes)); };
    row("State", status.draining  ? "shutting down"
                 : reason.empty() ? "ready"
                                  : "degraded: " + reason);
    row("Model", served->name());
    row("Architecture", served->model().config().architecture);
    row("Context", fmt::format("{} tokens", status.context));
    row("Memory",
        fmt::format("{} planned on the {}: weights {}, cache {}, workspace {}; {} resident",
                    size(planned.total()), served->device() == backend::Device::cpu ? "CPU" : "GPU",
                    size(planned.weights), size(planned.kv_cache), size(planned.workspace),
                    size(resident_bytes())));
    row("Requests", fmt::format("{} running, {} queued", status.running, status.queued));
    row("Tokens",
        fmt::format("{} of prompts, {} of answers", status.prompt_tokens, status.output_tokens));
  } else {
    row("Model", "loading");
  }
  return HttpResponse{
      .content_type = "text/html; charset=utf-8",
      .body = fmt::format(
          "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>mxgpt</title>\n"
          "<style>body{{font:16px sans-serif;margin:3em}}th{{text-align:left;padding-right:2em}}"
          "</style>\n<h1>mxgpt</h1>\n<table>\n{}</table>\n"
          "<p><a href=\"/openapi.json\">API</a>, <a href=\"/health\">health</a>, "
          "<a href=\"/metrics\">metrics</a>; docs/serving.md tells how to use it.</p></html>\n",
          rows),
      .headers = {{"content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"}}};
}

}  // namespace mxgpt::server
