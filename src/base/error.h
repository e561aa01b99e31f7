// Errors that outside input can cause: a bad file, request or setting. They are thrown as Error and
// caught in two places only, the command's main and the request handler. A programmer's mistake is
// a CHECK (base/check.h); an outcome that is expected (queue full, no page free) is a returned
// value.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace mxgpt {

/// One sentence for a person: where it is ("model.gguf: tensor 'x'"), what is wrong, what to do
/// about it.
class Error : public std::runtime_error {
 public:
  /// `where` names the file, field or argument; `what` the fault with its values; `advice`, when
  /// there is a useful one, the next step. Neither ends in a full stop.
  Error(const std::string& where, const std::string& problem, const std::string& fix = {})
      : std::runtime_error((where.empty() ? "" : where + ": ") + problem +
                           (fix.empty() ? "" : "; " + fix)) {}
};

}  // namespace mxgpt