// Errors that outside input can cause: a bad file, request or setting. They are thrown as Error and
// caught in two places only: the command's main and the request handler. A programmer's mistake is
// a CHECK (base/check.h); an expected outcome (queue full, no free page) is a returned value.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace mxgpt {

/// One sentence for a person: where the fault is ("model.gguf: tensor 'x'"), the problem, and how
/// to fix it.
class Error : public std::runtime_error {
 public:
  /// `where` names the file, request field or setting (see `field` below); `problem` states the
  /// fault with its values; `fix`, if there is a useful one, the next step. None ends in a full
  /// stop.
  Error(const std::string& where, const std::string& problem, const std::string& fix = {})
      : std::runtime_error((where.empty() ? "" : where + ": ") + problem +
                           (fix.empty() ? "" : "; " + fix)),
        where_(where) {}

  const std::string& where() const { return where_; }
  /// what() without `where`: "problem; fix".
  std::string problem_and_fix() const {
    return std::string(what()).substr(where_.empty() ? 0 : where_.size() + 2);
  }

 private:
  std::string where_;
};

/// Names of settings, as Error::where. The library does not know the flags of the command line; the
/// CLI maps these names to its flags.
namespace field {
inline constexpr char kContextLength[] = "context length";
inline constexpr char kMaxSequences[] = "max sequences";
inline constexpr char kMaxBatchedTokens[] = "max batched tokens";
inline constexpr char kKvCacheTokens[] = "KV cache tokens";
inline constexpr char kKvCacheFormat[] = "KV cache format";
inline constexpr char kDevice[] = "device";
inline constexpr char kDeviceMemoryBudget[] = "device memory budget";
inline constexpr char kMemoryLock[] = "memory lock";
inline constexpr char kTensorFormat[] = "tensor format";
inline constexpr char kListenAddress[] = "listen address";
inline constexpr char kResponseStore[] = "response store";
}  // namespace field

}  // namespace mxgpt
