#include "server/api/api_error.h"

#include "base/escape.h"
#include "base/json.h"

namespace mxgpt::server {

namespace {

std::string_view openai_error_type(int status) {
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  if (status == 429) return "rate_limit_error";
  if (status >= 500) return "server_error";
  return "invalid_request_error";
}

std::string_view anthropic_error_type(int status) {
  if (status == 404) return "not_found_error";
  if (status == 413) return "request_too_large";
  if (status == 408) return "timeout_error";
  if (status == 503) return "overloaded_error";
  return status >= 500 ? "api_error" : openai_error_type(status);
}

json::value or_null(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(escape_for_terminal(text));
}

}  // namespace

std::string error_json(const ApiError& error, ErrorShape shape) {
  if (shape == ErrorShape::anthropic) {
    return json::serialize(json::object{{"type", "error"},
                                        {"error",
                                         {{"type", anthropic_error_type(error.status)},
                                          {"message", escape_for_terminal(error.what(), 2000)}}}});
  }
  return json::serialize(json::object{{"error",
                                       {{"message", escape_for_terminal(error.what(), 2000)},
                                        {"type", openai_error_type(error.status)},
                                        {"param", or_null(error.param)},
                                        {"code", or_null(error.code)}}}});
}

HttpResponse error_response(const ApiError& error, ErrorShape shape) {
  HttpResponse response{.status = error.status, .body = error_json(error, shape)};
  if (error.retry_after)
    response.headers.emplace_back("retry-after", std::to_string(*error.retry_after));
  if (error.status == 401) response.headers.emplace_back("www-authenticate", "Bearer");
  return response;
}

}  // namespace mxgpt::server
