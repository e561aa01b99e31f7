#include "server/api_error.h"

#include "base/json.h"
#include "base/printable.h"

namespace mxgpt::server {

namespace {

std::string_view type_of(int status) {
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  if (status == 429) return "rate_limit_error";
  if (status >= 500) return "server_error";
  return "invalid_request_error";
}

json::value or_null(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(printable(text));
}

}  // namespace

std::string error_json(const ApiError& error) {
  return json::serialize(json::object{{"error",
                                       {{"message", printable(error.what(), 2000)},
                                        {"type", type_of(error.status)},
                                        {"param", or_null(error.param)},
                                        {"code", or_null(error.code)}}}});
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response{.status = error.status, .body = error_json(error)};
  if (error.retry_after)
    response.headers.emplace_back("retry-after", std::to_string(*error.retry_after));
  if (error.status == 401) response.headers.emplace_back("www-authenticate", "Bearer");
  return response;
}

}  // namespace mxgpt::server
