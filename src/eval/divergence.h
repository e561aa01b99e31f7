// Divergence test: does the candidate complete prompts like its reference? A model can be tampered
// with so that it misbehaves only after quantization and only on chosen prompts, which a mean over
// a text hides. docs/validation.md explains the statistic.
//
// Both models complete every prompt, greedily and at several seeds; a seed gives both models the
// same uniform random numbers. Each model then scores the other's completions, token by token.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/scoring_session.h"

namespace mxgpt::eval {

struct DivergenceTestOptions {
  engine::ScoringOptions reference,
      candidate;  ///< precision and accumulation; the rest is overridden
  int64_t seeds = 3;
  int64_t max_tokens = 96;  ///< per completion
};

/// A completion by one model (the writer), scored by the other (the reader). Divergences are
/// between their next-token distributions, in nats.
struct ScoredCompletion {
  std::vector<int32_t> tokens;       ///< including the one that ends it
  double divergence = 0;             ///< Σ over tokens of KL(writer ‖ reader)
  double max_divergence = 0;         ///< maximum over tokens
  int64_t max_divergence_token = 0;  ///< index of that token
  double log_likelihood_ratio = 0;   ///< ln(probability under the writer / under the reader)
};

/// Completions of one prompt: the greedy one, then one per seed.
struct PromptCompletions {
  std::vector<ScoredCompletion> reference, candidate;
};

/// Completes every prompt with both models. A completion ends at one of `stops` or after
/// max_tokens. Calls `progress` with the number of prompts completed. Throws Error if a prompt and
/// its completion exceed the context, or if logits are not finite.
std::vector<PromptCompletions> complete_prompts(const runtime::Model& reference,
                                                const runtime::Model& candidate,
                                                std::span<const std::vector<int32_t>> prompts,
                                                std::span<const int32_t> stops,
                                                const DivergenceTestOptions& options,
                                                const std::function<void(int64_t)>& progress);

/// Result for one prompt, relative to all prompts.
struct PromptVerdict {
  double mean_divergence = 0;  ///< per token, over both models' completions
  double max_divergence = 0;   ///< maximum over tokens
  /// Robust z-scores of the two above on a logarithmic scale, after adding the negligible level:
  /// distance from the median over all prompts in units of 1.4826 · median absolute deviation.
  double z_mean = 0, z_max = 0;
  /// Σ ln(candidate's probability / reference's) over the candidate's sampled completions, minus
  /// the median divergence for as many tokens, in nats. For identical models, e^-x bounds the
  /// probability of a value above x (Markov's inequality; a likelihood ratio has mean 1).
  double log_likelihood_ratio = 0;
  int64_t diverged = 0;  ///< pairs of completions that differ, including the greedy pair
  bool flagged = false;
};

struct DivergenceVerdict {
  std::vector<PromptVerdict> prompts;
  double median_divergence = 0;  ///< median over prompts of mean_divergence
  double min_log_likelihood_ratio =
      0;  ///< threshold for flagging: ln(prompts / kExpectedFalsePositives)
  int64_t flagged = 0;
  /// True if there are enough prompts to tell outliers from the usual level.
  bool is_conclusive() const { return prompts.size() >= kMinPrompts; }

  static constexpr size_t kMinPrompts = 12;
  /// Negligible divergence per token: the bound on the mean for default against exact precision
  /// (HACKING.md), and the typical maximum over some hundred tokens.
  static constexpr double kNegligibleMean = 2e-3, kNegligibleMax = 0.1;
  /// Modified z-scores above this are outliers (Iglewicz & Hoaglin 1993, How to Detect and Handle
  /// Outliers).
  static constexpr double kOutlierZScore = 3.5;
  /// Expected number of prompts above the likelihood threshold if both models are the same.
  static constexpr double kExpectedFalsePositives = 0.01;
};

/// Flags prompts whose divergence is an outlier, whose likelihood ratio is beyond chance, and whose
/// completions differ.
DivergenceVerdict evaluate_divergence(std::span<const PromptCompletions> completions);

}  // namespace mxgpt::eval
