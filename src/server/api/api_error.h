// Errors of requests, in the formats of the APIs.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>

#include "server/http/http.h"

namespace mxgpt::server {

/// An error response: HTTP status and JSON body.
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

/// OpenAI: {"error": {message, type, param, code}}. Anthropic: {"type": "error", "error": {type,
/// message}}.
enum class ErrorShape { openai, anthropic };

/// The body of the error response, also sent as an event of a stream.
std::string error_json(const ApiError& error, ErrorShape shape = ErrorShape::openai);
HttpResponse error_response(const ApiError& error, ErrorShape shape = ErrorShape::openai);

}  // namespace mxgpt::server
