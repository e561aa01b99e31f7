// What a request can do wrong, in the shapes that clients know.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>

#include "server/http/http.h"

namespace mxgpt::server {

/// Becomes JSON with an HTTP status.
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

/// OpenAI's: {"error": {message, type, param, code}}; Anthropic's: {"type": "error", "error":
/// {type, message}}.
enum class ErrorShape { openai, anthropic };

/// The error's JSON, without an HTTP status around it: events of a stream carry it too.
std::string error_json(const ApiError& error, ErrorShape shape = ErrorShape::openai);
HttpResponse error_response(const ApiError& error, ErrorShape shape = ErrorShape::openai);

}  // namespace mxgpt::server
