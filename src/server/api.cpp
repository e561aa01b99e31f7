#include "server/api.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <new>
#include <vector>

#include "base/error.h"
#include "base/printable.h"
#include "server/api_error.h"
#include "server/request_json.h"

namespace mxgpt::server {

namespace {

constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", "Answer a conversation", chat_completions, &kChatFields},
    {"POST", "/v1/responses", "Answer, and keep the answer", responses, &kResponsesFields},
    {"GET", "/v1/responses/{response}", "A response that is kept", response},
    {"DELETE", "/v1/responses/{response}", "Forget a response", delete_response},
    {"GET", "/v1/responses/{response}/input_items", "What a response answers", response_input},
    {"POST", "/v1/completions", "Complete a text", completions, &kCompletionFields},
    {"POST", "/v1/messages", "Answer a conversation, in Anthropic's shape", messages,
     &kMessagesFields, false, ErrorShape::anthropic},
    {"POST", "/v1/messages/count_tokens", "Tokens of a conversation", count_tokens,
     &kCountTokensFields, false, ErrorShape::anthropic},
    {"GET", "/v1/models", "The model that is served, as a list", models},
    {"GET", "/v1/models/{model}", "The model that is served", model},
    {"POST", "/tokenize", "Text to token ids", tokenize, &kTokenizeFields},
    {"POST", "/detokenize", "Token ids to text", detokenize, &kDetokenizeFields},
    {"GET", "/health", "State of the server and its model", health, nullptr, true},
    {"GET", "/metrics", "Counters for Prometheus", metrics},
    {"GET", "/openapi.json", "This document", openapi, nullptr, true},
    {"GET", "/", "A page about the server", status_page, nullptr, true},
};

/// Whether `path` is the route's, in which "{…}" stands for one segment: it is put into
/// `parameter`.
bool is_at(const Route& route, std::string_view path, std::string_view& parameter) {
  const std::string_view own = route.path;
  const size_t open = own.find('{');
  if (open == own.npos) return own == path;
  const std::string_view before = own.substr(0, open), after = own.substr(own.find('}') + 1);
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) ||
      !path.ends_with(after))
    return false;
  parameter = path.substr(before.size(), path.size() - before.size() - after.size());
  return parameter.find('/') == parameter.npos;
}

const Route* find_route(const HttpHead& head, std::string_view& parameter) {
  for (const Route& route : kRoutes) {
    if (head.method == route.method && is_at(route, head.path, parameter)) return &route;
  }
  return nullptr;
}

const Route* find_route(const HttpHead& head) {
  std::string_view ignored;
  return find_route(head, ignored);
}

/// "GET, POST": the methods that there are for a path.
std::string methods_at(std::string_view path) {
  std::vector<std::string_view> methods;
  std::string_view ignored;
  for (const Route& route : kRoutes)
    if (is_at(route, path, ignored)) methods.push_back(route.method);
  return fmt::format("{}", fmt::join(methods, ", "));
}

ErrorShape shape_at(std::string_view path) {
  std::string_view ignored;
  for (const Route& route : kRoutes)
    if (is_at(route, path, ignored)) return route.errors;
  return ErrorShape::openai;
}

/// "tools[0].function.name" of a message that begins with it: the field that an Error is about.
std::string field_of(std::string_view message) {
  const std::string_view field = message.substr(0, message.find(':'));
  const bool is_field =
      field.size() < message.size() && std::all_of(field.begin(), field.end(), [](unsigned char c) {
        return std::isalnum(c) ||
               std::string_view("_.[]-$").find(static_cast<char>(c)) != std::string_view::npos;
      });
  return is_field ? std::string(field) : "";
}

std::string_view key_of(const HttpHead& head) {
  constexpr std::string_view kBearer = "bearer ";
  const std::string_view header = head.header("authorization");
  const bool is_bearer =
      header.size() > kBearer.size() &&
      std::equal(kBearer.begin(), kBearer.end(), header.begin(),
                 [](char wanted, char c) { return wanted == (c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return is_bearer ? header.substr(kBearer.size()) : head.header("x-api-key");
}

}  // namespace

std::span<const Route> Api::routes() {
  return kRoutes;
}

void Api::set_loading(Loading loading) {
  const std::lock_guard lock(mutex_);
  loading_ = std::move(loading);
}

Api::Loading Api::loading() const {
  const std::lock_guard lock(mutex_);
  return loading_;
}

void Api::serve(std::shared_ptr<const Served> served) {
  const std::lock_guard lock(mutex_);
  served_ = std::move(served);
}

std::shared_ptr<const Served> Api::served_or_null() const {
  const std::lock_guard lock(mutex_);
  return served_;
}

std::shared_ptr<const Served> Api::served() const {
  auto served = served_or_null();
  if (served) return served;
  ApiError error(503, "the model is loading", {}, "loading");
  error.retry_after = 5;
  throw error;
}

std::shared_ptr<const Served> Api::served(const json::Node& body) const {
  auto served = this->served();
  const std::string_view name = body.string_or("model", served->name());
  if (name == served->name()) return served;
  throw ApiError(
      404, fmt::format("there is no model '{}' here, only '{}'", printable(name), served->name()),
      "model", "model_not_found");
}

double Api::uptime() const {
  return std::chrono::duration<double>(Clock::now() - started_).count();
}

std::optional<Api::Clock::time_point> Api::deadline() const {
  if (deadline_.count() == 0) return std::nullopt;
  return Clock::now() + deadline_;
}

std::variant<HttpResponse, Handler::Admission> Api::admit(const HttpHead& head) {
  const Route* route = find_route(head);
  const ErrorShape shape = shape_at(head.path);
  if (const auto refusal = refuse_origin(head, origins_))
    return error_response(ApiError(403, *refusal, {}, "foreign_origin"), shape);
  if (!route && head.method == "OPTIONS") return HttpResponse{.status = 204};  // a browser asks
  Client* client = keys_.find(key_of(head));
  if (!client && !(route && route->open)) {
    return error_response(
        ApiError(401, "the API key is missing or unknown; send it as 'Authorization: Bearer KEY'",
                 {}, "invalid_api_key"),
        shape);
  }
  if (!route) {
    if (std::string methods = methods_at(head.path); !methods.empty()) {
      HttpResponse response =
          error_response(ApiError(405, fmt::format("{} is for {}, not for {}", printable(head.path),
                                                   methods, printable(head.method))),
                         shape);
      response.headers.emplace_back("allow", std::move(methods));
      return response;
    }
    return error_response(
        ApiError(404, fmt::format("there is no route '{}'", printable(head.path))));
  }
  if (route->open || !route->fields) return Admission{nullptr, client ? client->name() : ""};
  auto begun = client->begin(Clock::now());
  if (const auto* refusal = std::get_if<Client::Refusal>(&begun)) {
    ApiError error(429, refusal->what, {}, "rate_limit_exceeded");
    error.retry_after = refusal->retry_after;
    return error_response(error, shape);
  }
  return Admission{std::move(std::get<std::shared_ptr<void>>(begun)), client->name()};
}

Answer Api::handle(HttpRequest request) {
  std::string_view parameter;
  const Route* route = find_route(request.head, parameter);  // admit() has found it
  try {
    const json::value document =
        route->fields ? parse_request(request.body) : json::value(json::object());
    if (route->fields) check_fields(document.get_object(), *route->fields);
    const json::Node body(document, "");
    Call call{*this, request, body, parameter};
    return route->function(call);
  } catch (const ApiError& e) {
    return error_response(e, route->errors);
  } catch (const Error& e) {
    return error_response(ApiError(400, e.what(), field_of(e.what())), route->errors);
  } catch (const std::bad_alloc&) {
    return error_response(ApiError(503, "the server is out of memory"), route->errors);
  }
}

HttpResponse Api::error(const HttpHead& head, int status, const std::string& message) {
  return error_response(ApiError(status, message), shape_at(head.path));
}

void Api::log(const RequestRecord& record) {
  const HttpHead& head = *record.head;
  metrics_.record_response(find_route(head) ? find_route(head)->path : "other", record.status);
  spdlog::info("request id={} client={} remote={} method={} path={} status={} bytes={} ms={:.1f}",
               head.id, record.client.empty() ? "-" : record.client, head.remote,
               printable(head.method, 16), printable(head.path, 100), record.status, record.bytes,
               record.seconds * 1000);
}

}  // namespace mxgpt::server
