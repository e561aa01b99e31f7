// What must hold of any model on any backend, with no reference at hand: `mxgpt validate --model
// M`.
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
  std::string measure;  ///< what `measured` is, or why the check does not apply
  double measured = 0, bound = 0;
  Status status = Status::not_applicable;
};

/// A model's parts; they may be changed copies.
struct SelfCheckModel {
  const model::Architecture& architecture;
  const model::Config& config;
  const model::Weights& weights;
  kernels::AccumType accumulate = kernels::AccumType::f32;  ///< of the default precision
  std::optional<quant::Format> kv;                          ///< of the default precision's cache
  backend::Device device = backend::Device::cpu;            ///< whose memory the weights are in
  std::function<decltype(runtime::create_runner)> create_runner = runtime::create_runner;
};

/// Runs all checks on a text of the model's kind; kSelfCheckTokens of it at most. Throws Error if
/// there are fewer than kFewestSelfCheckTokens, or if logits are not finite.
std::vector<SelfCheckResult> self_check(const SelfCheckModel& model, std::span<const int32_t> text);

/// Enough to cross the edges of pages and of gpt-oss's window.
inline constexpr int64_t kMaxSelfCheckTokens = 200;
inline constexpr int64_t kMinSelfCheckTokens = 40;

}  // namespace mxgpt::eval
