// One sequence on one runner: a prompt goes in, logits come out, and what the cache holds is reused
// when the next prompt begins the same way.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/kv_cache.h"
#include "kernels/accum_type.h"
#include "runtime/model.h"
#include "runtime/runner.h"

namespace mxgpt::engine {

struct ScoringOptions {
  std::string_view device = "cpu";
  int64_t vram_budget = 0;  ///< as of RunnerOptions
  backend::Precision precision = backend::Precision::mixed;
  kernels::AccumType accum_type = kernels::AccumType::f32;  ///< of linear layers
  std::optional<quant::Format>
      kv_format;        ///< of the KV cache; empty: f32 in exact precision, else f16
  int64_t context = 0;  ///< longest sequence; 0 means the model's own, at most kDefaultContext
  int64_t max_batched_tokens = 256;  ///< prompt tokens a step
  bool all_logits = false;           ///< whether feed() may ask for the logits of every token
  backend::ActivationHook* activation_hook = nullptr;  ///< shown every step; may be null
};

inline constexpr int64_t kDefaultContext = 32768;

/// Not thread-safe. The model outlives it.
class ScoringSession {
 public:
  ScoringSession(const runtime::Model& model, const ScoringOptions& options);
  /// Of weights that are not a model's own: a changed copy, for instance. They are in the memory of
  /// options.device. All three outlive it.
  ScoringSession(const model::Architecture& architecture, const model::Config& config,
                 const model::Weights& weights, const ScoringOptions& options);
  /// With a runner that was created with runner_options().
  ScoringSession(const model::Config& config, const ScoringOptions& options,
                 std::unique_ptr<runtime::Runner> runner);

  /// What its runner must be made for.
  static runtime::RunnerOptions runner_options(const model::Config& config,
                                               const ScoringOptions& options);

  /// Called with a position and its logits [vocabulary], valid until the next step.
  using OnLogits = std::function<void(int64_t position, std::span<const float> logits)>;

  /// Extends the sequence by `tokens`, in steps. Logits of the last token come back, valid until
  /// the next call; with `each`, every token's are shown as they come. `cancelled` is asked between
  /// steps, and ends the feed early: then the result is empty. Throws Error if the context would
  /// overflow.
  std::span<const float> feed(std::span<const int32_t> tokens, const OnLogits& on_logits = {},
                              const std::function<bool()>& cancelled = {});

  /// Keeps the longest prefix that the sequence shares with `tokens`, short of the last one, and
  /// for which the cache still holds all that is needed; returns its length.
  int64_t rewind_to_common_prefix(std::span<const int32_t> tokens);

  /// Forgets the sequence.
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
  std::vector<int32_t> tokens_;  // in the cache
};

}  // namespace mxgpt::engine
