// For tests of what an Error says.
#pragma once

#include <string>

#include "base/error.h"

namespace mxgpt {

/// What the Error says that `call` throws.
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
