#include "eval/divergence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "engine/sampler.h"
#include "eval/teacher_forcing.h"

namespace mxgpt::eval {
namespace {

/// A model that completes prompts and scores completions. Keeps the logits for each token of its
/// last completion.
class CompletionScorer {
 public:
  CompletionScorer(const runtime::Model& model, engine::ScoringOptions options, int64_t longest)
      : model_(model), session_(model, with_context(options, longest)) {}

  void complete(std::span<const int32_t> prompt, std::span<const int32_t> stops,
                const engine::SamplingParams& sampling, int64_t max_tokens) {
    tokens.clear();
    logits.clear();
    engine::Sampler sampler(sampling, prompt);
    std::span<const float> next = prefill(prompt);
    while (true) {
      logits.emplace_back(next.begin(), next.end());
      const std::optional<int32_t> sampled = sampler.sample(next);
      if (!sampled)
        throw Error("model", "the logits are not finite", "check the file with `mxgpt verify`");
      tokens.push_back(*sampled);
      if (std::find(stops.begin(), stops.end(), tokens.back()) != stops.end() ||
          static_cast<int64_t>(tokens.size()) == max_tokens)
        return;
      next = session_.feed({&tokens.back(), 1});
    }
  }

  /// This model's logits for each token of a given completion.
  std::vector<std::vector<float>> score(std::span<const int32_t> prompt,
                                        std::span<const int32_t> completion) {
    std::vector<std::vector<float>> result;
    const auto append = [&](std::span<const float> next) {
      if (!std::isfinite(log_sum_exp(next))) {
        throw Error(model_.path().string(), "the logits are not finite",
                    "check the file with `mxgpt verify`");
      }
      result.emplace_back(next.begin(), next.end());
    };
    append(prefill(prompt));
    if (completion.size() > 1) {
      session_.feed(completion.first(completion.size() - 1),
                    [&](int64_t, std::span<const float> next) { append(next); });
    }
    return result;
  }

  std::vector<int32_t> tokens;
  std::vector<std::vector<float>> logits;  ///< [tokens][vocabulary]

 private:
  static engine::ScoringOptions with_context(engine::ScoringOptions options, int64_t longest) {
    options.context = longest;
    options.all_logits = true;
    return options;
  }

  std::span<const float> prefill(std::span<const int32_t> prompt) {
    const int64_t known = session_.rewind_to_common_prefix(prompt);
    return session_.feed(prompt.subspan(known));
  }

  const runtime::Model& model_;
  engine::ScoringSession session_;
};

using LogitRows = std::vector<std::vector<float>>;

ScoredCompletion score_completion(const std::vector<int32_t>& tokens, const LogitRows& writer,
                                  const LogitRows& reader) {
  ScoredCompletion completion{.tokens = tokens};
  for (size_t at = 0; at < tokens.size(); ++at) {
    const double writer_total = log_sum_exp(writer[at]), reader_total = log_sum_exp(reader[at]);
    double divergence = 0;
    for (size_t i = 0; i < writer[at].size(); ++i) {
      const double p = writer[at][i] - writer_total, q = reader[at][i] - reader_total;
      divergence += std::exp(p) * (p - q);
    }
    divergence = std::max(divergence, 0.0);  // rounding may give a tiny negative value
    completion.divergence += divergence;
    if (divergence > completion.max_divergence) {
      completion.max_divergence = divergence;
      completion.max_divergence_token = static_cast<int64_t>(at);
    }
    const int32_t token = tokens[at];
    completion.log_likelihood_ratio +=
        (writer[at][token] - writer_total) - (reader[at][token] - reader_total);
  }
  return completion;
}

/// Completes a prompt with both models from the same random numbers, and scores both completions.
void complete_prompt(CompletionScorer& reference, CompletionScorer& candidate,
                     std::span<const int32_t> prompt, std::span<const int32_t> stops,
                     const engine::SamplingParams& sampling, int64_t max_tokens,
                     PromptCompletions& completions) {
  reference.complete(prompt, stops, sampling, max_tokens);
  candidate.complete(prompt, stops, sampling, max_tokens);
  const LogitRows reference_logits = reference.logits, candidate_logits = candidate.logits;
  const std::vector<int32_t> reference_tokens = reference.tokens;
  // Equal completions have been scored already.
  const bool same = reference_tokens == candidate.tokens;
  completions.reference.push_back(
      score_completion(reference_tokens, reference_logits,
                       same ? candidate_logits : candidate.score(prompt, reference_tokens)));
  completions.candidate.push_back(
      score_completion(candidate.tokens, candidate_logits,
                       same ? reference_logits : reference.score(prompt, candidate.tokens)));
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// Robust z-scores of ln(value + negligible). Divergences of prompts span orders of magnitude;
/// those below `negligible` are noise.
std::vector<double> log_z_scores(const std::vector<double>& values, double negligible) {
  // Lower bound, so that if nearly all prompts are negligible, an outlier still exceeds the rest by
  // e^(3.5 / 4) = 2.4.
  constexpr double kMinDeviation = 0.25;
  std::vector<double> logs, deviations;
  for (const double v : values) logs.push_back(std::log(v + negligible));
  const double center = median(logs);
  for (const double l : logs) deviations.push_back(std::abs(l - center));
  const double deviation = std::max(1.4826 * median(deviations), kMinDeviation);
  for (double& l : logs) l = (l - center) / deviation;
  return logs;
}

}  // namespace

std::vector<PromptCompletions> complete_prompts(const runtime::Model& reference,
                                                const runtime::Model& candidate,
                                                std::span<const std::vector<int32_t>> prompts,
                                                std::span<const int32_t> stops,
                                                const DivergenceTestOptions& options,
                                                const std::function<void(int64_t)>& progress) {
  int64_t longest = 0;
  for (const auto& prompt : prompts) {
    if (prompt.empty()) throw Error("prompt", "is empty");
    longest = std::max(longest, std::ssize(prompt) + options.max_tokens);
  }
  const int64_t context = std::min(reference.config().context, candidate.config().context);
  if (longest > context) {
    throw Error("prompt",
                fmt::format("the longest, with its completion, has {} tokens; the models' context "
                            "is {}",
                            longest, context),
                "remove it");
  }
  CompletionScorer reference_scorer(reference, options.reference, longest),
      candidate_scorer(candidate, options.candidate, longest);
  std::vector<PromptCompletions> result;
  for (const auto& prompt : prompts) {
    PromptCompletions& completions = result.emplace_back();
    for (int64_t seed = 0; seed <= options.seeds; ++seed) {
      const engine::SamplingParams sampling{.temperature = seed ? 1.0 : 0.0,
                                            .seed = static_cast<uint64_t>(seed)};
      complete_prompt(reference_scorer, candidate_scorer, prompt, stops, sampling,
                      options.max_tokens, completions);
    }
    progress(1);
  }
  return result;
}

DivergenceVerdict evaluate_divergence(std::span<const PromptCompletions> completions) {
  DivergenceVerdict verdict;
  if (completions.empty()) return verdict;
  std::vector<double> means, max_divergences;
  for (const PromptCompletions& prompt : completions) {
    double divergence = 0, max_divergence = 0, tokens = 0;
    for (const auto* side : {&prompt.reference, &prompt.candidate}) {
      for (const ScoredCompletion& a : *side) {
        divergence += a.divergence;
        max_divergence = std::max(max_divergence, a.max_divergence);
        tokens += static_cast<double>(a.tokens.size());
      }
    }
    means.push_back(divergence / tokens);
    max_divergences.push_back(max_divergence);
  }
  verdict.median_divergence = median(means);
  verdict.min_log_likelihood_ratio = std::log(static_cast<double>(completions.size()) /
                                              DivergenceVerdict::kExpectedFalsePositives);
  const std::vector<double> z_mean = log_z_scores(means, DivergenceVerdict::kNegligibleMean),
                            z_worst =
                                log_z_scores(max_divergences, DivergenceVerdict::kNegligibleMax);
  for (size_t i = 0; i < completions.size(); ++i) {
    PromptVerdict v{.mean_divergence = means[i],
                    .max_divergence = max_divergences[i],
                    .z_mean = z_mean[i],
                    .z_max = z_worst[i]};
    for (size_t s = 0; s < completions[i].candidate.size(); ++s) {
      const ScoredCompletion& reference_completion = completions[i].reference[s];
      const ScoredCompletion& candidate_completion = completions[i].candidate[s];
      const auto tokens = static_cast<double>(candidate_completion.tokens.size());
      v.diverged += reference_completion.tokens != candidate_completion.tokens;
      // Skip the greedy completion: it is not a sample, so its likelihood ratio does not have mean
      // 1.
      if (s > 0)
        v.log_likelihood_ratio +=
            candidate_completion.log_likelihood_ratio - tokens * verdict.median_divergence;
    }
    v.flagged = completions.size() >= DivergenceVerdict::kMinPrompts &&
                std::max(v.z_mean, v.z_max) > DivergenceVerdict::kOutlierZScore &&
                v.log_likelihood_ratio > verdict.min_log_likelihood_ratio && v.diverged > 0;
    verdict.flagged += v.flagged;
    verdict.prompts.push_back(v);
  }
  return verdict;
}

}  // namespace mxgpt::eval
