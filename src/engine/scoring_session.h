// Computes logits of one sequence on one runner, and reuses the KV cache for a common prefix.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "kernels/accum_type.h"
#include "runtime/model.h"
#include "runtime/runner.h"

namespace mxgpt::engine {

struct ScoringOptions {
  std::string_view device = "cpu";
  int64_t vram_budget = 0;  ///< see RunnerOptions
  backend::Precision precision = backend::Precision::mixed;
  kernels::AccumType accum_type = kernels::AccumType::f32;  ///< of linear layers
  std::optional<quant::Format> kv_format;  ///< empty: f32 in exact precision, else f16
  int64_t context = 0;               ///< maximum length; 0: the model's, at most kDefaultContext
  int64_t max_batched_tokens = 256;  ///< tokens per step
  bool all_logits = false;           ///< allow feed() to report the logits of every token
  backend::ActivationHook* activation_hook = nullptr;  ///< called in every step; may be null
};

/// Not thread-safe. The model outlives it.
class ScoringSession {
 public:
  ScoringSession(const runtime::Model& model, const ScoringOptions& options);
  /// For other weights than a model's own, such as a modified copy in the memory of options.device.
  /// All three must outlive the session.
  ScoringSession(const model::Architecture& architecture, const model::Config& config,
                 const model::Weights& weights, const ScoringOptions& options);
  /// Uses a runner created with runner_options().
  ScoringSession(const model::Config& config, const ScoringOptions& options,
                 std::unique_ptr<runtime::Runner> runner);

  /// Options for a runner of this session.
  static runtime::RunnerOptions runner_options(const model::Config& config,
                                               const ScoringOptions& options);

  /// Called with a position and its logits [vocabulary], valid until the next step.
  using OnLogits = std::function<void(int64_t position, std::span<const float> logits)>;

  /// Appends `tokens` in steps and returns the logits of the last, valid until the next call. Calls
  /// `on_logits` for every token. `cancelled` is polled between steps; if it returns true, feed()
  /// returns early with an empty result. Throws Error if the context would overflow.
  std::span<const float> feed(std::span<const int32_t> tokens, const OnLogits& on_logits = {},
                              const std::function<bool()>& cancelled = {});

  /// Truncates the sequence to the longest usable prefix that it shares with `tokens`, excluding
  /// the last token, and returns its length. The prefix is empty if the cache lacks a page of it.
  int64_t rewind_to_common_prefix(std::span<const int32_t> tokens);

  /// Removes all tokens.
  void reset();

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  int64_t context() const { return context_; }

 private:
  void trim(int64_t end);

  const model::Config& config_;
  int64_t context_, max_batched_tokens_;
  bool all_logits_;
  PagePool pools_[backend::kKvGroups];
  std::vector<int32_t> page_tables_[backend::kKvGroups];  // [context / kPageTokens]
  std::vector<SequencePages> kv_groups_;                  // by KvGroup
  std::unique_ptr<runtime::Runner> runner_;
  std::vector<int32_t> tokens_;  // tokens in the cache
};

}  // namespace mxgpt::engine
