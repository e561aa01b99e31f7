// What a request can do wrong, in the shape that OpenAI's clients know.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>

#include "server/http.h"

namespace mxgpt::server {

/// Becomes {"error": {message, type, param, code}} with an HTTP status.
class ApiError : public std::runtime_error {
 public:
  ApiError(int status_, const std::string& message, std::string param_ = {}, std::string code_ = {})
      : std::runtime_error(message),
        status(status_),
        param(std::move(param_)),
        code(std::move(code_)) {}

  int status;
  std::string param;               ///< the field, "messages[0].content"; empty: null
  std::string code;                ///< empty: null
  std::optional<int> retry_after;  ///< seconds
};

/// The error's JSON, without an HTTP status around it: events of a stream carry it too.
std::string error_json(const ApiError& error);
HttpResponse error_response(const ApiError& error);

}  // namespace mxgpt::server
