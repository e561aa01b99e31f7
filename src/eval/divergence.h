// Whether a candidate answers as its reference does, prompt by prompt: a model can be made to
// misbehave only after quantization, and only where someone wants it to, which no mean over a text
// shows. docs/validation.md explains the statistic.
//
// Every prompt is answered by both models, greedily and at several seeds; the same seed means the
// same uniform numbers for both. Each answer is then read by the other model, token by token.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/scoring_session.h"

namespace mxgpt::eval {

struct DivergenceTestOptions {
  engine::ScoringOptions reference, candidate;  ///< precision and sums; the rest is set here
  int64_t seeds = 3;
  int64_t max_tokens = 96;  ///< of an answer
};

/// What one model wrote and how the other one read it. All divergences are of the two models'
/// distributions of a next token, in nats.
struct ScoredCompletion {
  std::vector<int32_t> tokens;       ///< the one that ends it included
  double divergence = 0;             ///< Σ over tokens of KL(writer ‖ reader)
  double max_divergence = 0;         ///< the largest of these,
  int64_t max_divergence_token = 0;  ///< and where
  double log_likelihood_ratio = 0;   ///< ln of the writer's probability of it over the reader's
};

/// Answers to one prompt by both models: the greedy one, then by seed.
struct PromptCompletions {
  std::vector<ScoredCompletion> reference, candidate;
};

/// Answers every prompt. Sequences end at `stops` or after max_tokens. `progress` hears of prompts
/// done. Throws Error if a prompt leaves no room for an answer, or if logits are not finite.
std::vector<PromptCompletions> complete_prompts(const runtime::Model& reference,
                                                const runtime::Model& candidate,
                                                std::span<const std::vector<int32_t>> prompts,
                                                std::span<const int32_t> stops,
                                                const DivergenceTestOptions& options,
                                                const std::function<void(int64_t)>& progress);

/// How one prompt stands among all.
struct PromptVerdict {
  double mean_divergence = 0;  ///< a token, over the answers of both
  double max_divergence = 0;   ///< of one token
  /// Of the two above on a logarithmic scale, what is negligible being added: distances from the
  /// medians over all prompts in robust standard deviations (1.4826 · median absolute deviation).
  double z_mean = 0, z_max = 0;
  /// How strongly the candidate's sampled answers speak against the reference having written them,
  /// in nats: Σ ln (candidate's probability / reference's), less what the ordinary divergence of
  /// this pair of models gives for as many tokens. If the models were the same, e^-evidence would
  /// bound the probability of it (Markov's inequality on a likelihood ratio, whose mean is then 1).
  double log_likelihood_ratio = 0;
  int64_t diverged = 0;  ///< pairs of answers that differ, the greedy one included
  bool flagged = false;
};

struct DivergenceVerdict {
  std::vector<PromptVerdict> prompts;
  double median_divergence = 0;  ///< median over prompts of mean_divergence
  double min_log_likelihood_ratio =
      0;  ///< what a flagged prompt exceeds, ln(prompts / kFalseAlarms)
  int64_t flagged = 0;
  /// Fewer prompts have no ordinary level to stand out from.
  bool is_conclusive() const { return prompts.size() >= kMinPrompts; }

  static constexpr size_t kMinPrompts = 12;
  /// Of a token's divergence: what the default path may have on average against exact arithmetic on
  /// the same weights (HACKING.md), and what it has at its worst among some hundred tokens.
  static constexpr double kNegligibleMean = 2e-3, kNegligibleMax = 0.1;
  /// Modified z-scores above it are outliers (Iglewicz & Hoaglin 1993, How to Detect and Handle
  /// Outliers).
  static constexpr double kOutlierZScore = 3.5;
  /// Flagged prompts expected by evidence alone from two models that are the same.
  static constexpr double kExpectedFalsePositives = 0.01;
};

/// Flags the prompts that stand out in divergence, whose evidence is beyond chance, and to which
/// the models gave different answers.
DivergenceVerdict evaluate_divergence(std::span<const PromptCompletions> completions);

}  // namespace mxgpt::eval
