// Error messages in tests.
#pragma once

#include <string>

#include "base/error.h"

namespace mxgpt {

/// The message of the Error that `call` throws, or "no error".
template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace mxgpt
