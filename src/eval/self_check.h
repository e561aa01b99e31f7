// Self-checks: invariants that every model must satisfy on every device, without a reference.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/accum_type.h"
#include "model/architecture.h"
#include "runtime/model_runner.h"

namespace mxgpt::eval {

struct SelfCheckResult {
  enum class Status { pass, fail, not_applicable };

  std::string name;     ///< "prefill equals token by token, exact"
  std::string measure;  ///< meaning of `measured`, or why the check is not applicable
  double measured = 0, bound = 0;
  Status status = Status::not_applicable;
};

/// Parts of a model, possibly modified copies.
struct SelfCheckModel {
  const model::Architecture& architecture;
  const model::Config& config;
  const model::Weights& weights;
  kernels::AccumType accumulate = kernels::AccumType::f32;  ///< for default precision
  std::optional<quant::Format> kv;  ///< KV cache format for default precision
  std::string_view device = "cpu";  ///< device that holds the weights
  std::function<decltype(runtime::create_runner)> create_runner = runtime::create_runner;
};

/// Runs all checks on at most kMaxSelfCheckTokens tokens of `text`, which should be natural text.
/// Throws Error if there are fewer than kMinSelfCheckTokens, or if logits are not finite.
std::vector<SelfCheckResult> self_check(const SelfCheckModel& model, std::span<const int32_t> text);

/// Enough to cross page boundaries and gpt-oss's window.
inline constexpr int64_t kMaxSelfCheckTokens = 200;
inline constexpr int64_t kMinSelfCheckTokens = 40;

}  // namespace mxgpt::eval
