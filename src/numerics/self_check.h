// What must hold of any model on any backend, with no reference at hand: `mxgpt validate --model
// M`.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/architecture.h"

namespace mxgpt {

struct SelfCheckResult {
  enum class Verdict { holds, fails, does_not_apply };

  std::string name;     ///< "prefill equals token by token, exact"
  std::string measure;  ///< what `measured` is, or why the check does not apply
  double measured = 0, bound = 0;
  Verdict verdict = Verdict::does_not_apply;
};

/// A model's parts; they may be changed copies.
struct SelfCheckSubject {
  const Architecture& architecture;
  const Config& config;
  const Weights& weights;
  Accumulate accumulate = Accumulate::f32;  ///< of the default precision
  std::optional<Format> kv;                 ///< of the default precision's cache
  Device device = Device::cpu;              ///< whose memory the weights are in
};

/// Runs all checks on a text of the model's kind; kSelfCheckTokens of it at most. Throws Error if
/// there are fewer than kFewestSelfCheckTokens, or if logits are not finite.
std::vector<SelfCheckResult> self_check(const SelfCheckSubject& subject,
                                        std::span<const int32_t> text);

/// Enough to cross the edges of pages and of gpt-oss's window.
inline constexpr int64_t kSelfCheckTokens = 200;
inline constexpr int64_t kFewestSelfCheckTokens = 40;

}  // namespace mxgpt
