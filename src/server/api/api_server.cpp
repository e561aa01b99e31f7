#include "server/api/api_server.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <new>
#include <vector>

#include "base/error.h"
#include "base/escape.h"
#include "base/log.h"
#include "chat/request_error.h"
#include "server/api/api_error.h"
#include "server/api/request_json.h"

namespace mxgpt::server {

namespace {

/// Whether `path` matches the route's, in which "{…}" stands for one segment. Sets `parameter` to
/// that segment.
bool path_matches(const Route& route, std::string_view path, std::string_view& parameter) {
  const std::string_view pattern = route.path;
  const size_t open = pattern.find('{');
  if (open == pattern.npos) return pattern == path;
  const std::string_view before = pattern.substr(0, open),
                         after = pattern.substr(pattern.find('}') + 1);
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) ||
      !path.ends_with(after))
    return false;
  parameter = path.substr(before.size(), path.size() - before.size() - after.size());
  return parameter.find('/') == parameter.npos;
}

const Route* find_route(const HttpRequestHead& head, std::string_view& parameter) {
  for (const Route& route : all_routes()) {
    if (head.method == route.method && path_matches(route, head.path, parameter)) return &route;
  }
  return nullptr;
}

const Route* find_route(const HttpRequestHead& head) {
  std::string_view ignored;
  return find_route(head, ignored);
}

/// The methods that a path supports, as "GET, POST".
std::string allowed_methods(std::string_view path) {
  std::vector<std::string_view> methods;
  std::string_view ignored;
  for (const Route& route : all_routes())
    if (path_matches(route, path, ignored)) methods.push_back(route.method);
  return fmt::format("{}", fmt::join(methods, ", "));
}

ErrorShape error_shape_for(std::string_view path) {
  std::string_view ignored;
  for (const Route& route : all_routes())
    if (path_matches(route, path, ignored)) return route.error_shape;
  return ErrorShape::openai;
}

/// Extracts the field name that the message of an Error starts with, "tools[0].function.name".
std::string field_in_message(std::string_view message) {
  const std::string_view field = message.substr(0, message.find(':'));
  const bool is_field =
      field.size() < message.size() && std::all_of(field.begin(), field.end(), [](unsigned char c) {
        return std::isalnum(c) ||
               std::string_view("_.[]-$").find(static_cast<char>(c)) != std::string_view::npos;
      });
  return is_field ? std::string(field) : "";
}

std::string_view api_key_from(const HttpRequestHead& head) {
  constexpr std::string_view kBearer = "bearer ";
  const std::string_view header = head.header("authorization");
  const bool is_bearer =
      header.size() > kBearer.size() &&
      std::equal(kBearer.begin(), kBearer.end(), header.begin(),
                 [](char wanted, char c) { return wanted == (c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return is_bearer ? header.substr(kBearer.size()) : head.header("x-api-key");
}

}  // namespace

void ApiServer::set_load_progress(LoadProgress progress) {
  const std::lock_guard lock(mutex_);
  load_progress_ = std::move(progress);
}

ApiServer::LoadProgress ApiServer::load_progress() const {
  const std::lock_guard lock(mutex_);
  return load_progress_;
}

void ApiServer::set_served_model(std::shared_ptr<const ServedModel> served) {
  const std::lock_guard lock(mutex_);
  served_model_ = std::move(served);
}

std::shared_ptr<const ServedModel> ApiServer::served_model_or_null() const {
  const std::lock_guard lock(mutex_);
  return served_model_;
}

std::shared_ptr<const ServedModel> ApiServer::served_model() const {
  auto served = served_model_or_null();
  if (served) return served;
  ApiError error(503, "the model is loading", {}, "loading");
  error.retry_after = 5;
  throw error;
}

std::shared_ptr<const ServedModel> ApiServer::served_model(const json::Node& body) const {
  auto served = this->served_model();
  const std::string_view name = body.string_or("model", served->name());
  if (name == served->name()) return served;
  throw ApiError(404,
                 fmt::format("unknown model '{}'; this server has '{}'", escape_for_terminal(name),
                             served->name()),
                 "model", "model_not_found");
}

std::string ApiServer::cache_salt(const std::string& client) const {
  return api_keys_.required() && !share_prefix_cache_ ? client : std::string();
}

double ApiServer::uptime() const {
  return std::chrono::duration<double>(Clock::now() - started_).count();
}

std::optional<ApiServer::Clock::time_point> ApiServer::request_deadline() const {
  if (request_timeout_.count() == 0) return std::nullopt;
  return Clock::now() + request_timeout_;
}

std::variant<HttpResponse, Handler::Admission> ApiServer::admit(const HttpRequestHead& head) {
  const Route* route = find_route(head);
  const ErrorShape shape = error_shape_for(head.path);
  if (const auto refusal = origin_rejection(head, origin_policy_))
    return error_response(ApiError(403, *refusal, {}, "foreign_origin"), shape);
  if (!route && head.method == "OPTIONS") return HttpResponse{.status = 204};  // CORS preflight
  Client* client = api_keys_.find(api_key_from(head));
  if (!client && !(route && route->is_public)) {
    return error_response(
        ApiError(401, "missing or unknown API key; send it as 'Authorization: Bearer KEY'", {},
                 "invalid_api_key"),
        shape);
  }
  if (!route) {
    if (std::string methods = allowed_methods(head.path); !methods.empty()) {
      HttpResponse response =
          error_response(ApiError(405, fmt::format("{} does not support {}; use {}",
                                                   escape_for_terminal(head.path),
                                                   escape_for_terminal(head.method), methods)),
                         shape);
      response.headers.emplace_back("allow", std::move(methods));
      return response;
    }
    return error_response(
        ApiError(404, fmt::format("unknown route '{}'", escape_for_terminal(head.path))));
  }
  if (route->is_public || !route->request_schema.has_body())
    return Admission{.client = client ? client->name() : "",
                     .takes_body = route->request_schema.has_body()};
  auto admission = client->acquire(Clock::now());
  if (const auto* refusal = std::get_if<Client::LimitExceeded>(&admission)) {
    ApiError error(429, refusal->message, {}, "rate_limit_exceeded");
    error.retry_after = refusal->retry_after;
    return error_response(error, shape);
  }
  return Admission{std::move(std::get<std::shared_ptr<void>>(admission)), client->name()};
}

HandlerResult ApiServer::handle(HttpRequest request) {
  std::string_view parameter;
  const Route* route = find_route(request.head, parameter);  // never null after admit()
  try {
    const bool has_body = route->request_schema.has_body();
    const json::value document =
        has_body ? parse_request(request.body) : json::value(json::object());
    if (has_body) validate_request(document.get_object(), route->request_schema);
    const json::Node body(document, "");
    const RequestContext context{*this, request, body, parameter};
    return route->handler(context);
  } catch (const ApiError& e) {
    return error_response(e, route->error_shape);
  } catch (const chat::RequestError& e) {
    const bool busy = e.kind == chat::RequestError::Kind::busy;
    ApiError error(busy ? 429 : 400, e.what(), e.field, e.code);
    if (busy) error.retry_after = 5;
    return error_response(error, route->error_shape);
  } catch (const Error& e) {
    return error_response(ApiError(400, e.what(), field_in_message(e.what())), route->error_shape);
  } catch (const std::bad_alloc&) {
    return error_response(ApiError(503, "the server is out of memory"), route->error_shape);
  }
}

HttpResponse ApiServer::transport_error(const HttpRequestHead& head, int status,
                                        const std::string& message) {
  return error_response(ApiError(status, message), error_shape_for(head.path));
}

void ApiServer::log(const AccessLogEntry& entry) {
  const HttpRequestHead& head = *entry.head;
  metrics_.record_response(find_route(head) ? find_route(head)->path : "other", entry.status);
  log::info("request id={} client={} remote={} method={} path={} status={} bytes={} ms={:.1f}",
            head.id, entry.client.empty() ? "-" : entry.client, head.remote_address,
            escape_for_terminal(head.method, 16), escape_for_terminal(head.path, 100), entry.status,
            entry.body_bytes, entry.seconds * 1000);
}

}  // namespace mxgpt::server
