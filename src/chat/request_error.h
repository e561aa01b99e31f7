// Faults of a chat request.
#pragma once

#include <string>
#include <utility>

#include "base/error.h"

namespace mxgpt::chat {

/// A request that cannot be prepared. `field` is in the vocabulary of the request.
class RequestError : public Error {
 public:
  enum class Kind {
    invalid,
    busy,  ///< the same request may succeed later
  };

  RequestError(std::string field_, const std::string& message, std::string code_ = "invalid_value")
      : Error(field_, message), field(std::move(field_)), code(std::move(code_)) {}
  static RequestError busy(const std::string& message) {
    RequestError error({}, message, "grammars_busy");
    error.kind = Kind::busy;
    return error;
  }

  Kind kind = Kind::invalid;
  std::string field;  ///< "messages[0].content"; empty: the request as a whole
  std::string code;   ///< for programs
};

}  // namespace mxgpt::chat
