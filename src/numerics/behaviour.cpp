#include "numerics/behaviour.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "engine/sampler.h"
#include "numerics/score.h"

namespace mxgpt {
namespace {

/// A model that answers and reads. Remembers the logits that led to each token of its last answer.
class Speaker {
 public:
  Speaker(const Model& model, SessionOptions options, int64_t longest)
      : model_(model), session_(model, with_room(options, longest)) {}

  void write(std::span<const int32_t> prompt, std::span<const int32_t> stops,
             const SamplingParams& sampling, int64_t max_tokens) {
    tokens.clear();
    logits.clear();
    Sampler sampler(sampling, prompt);
    std::span<const float> next = start(prompt);
    while (true) {
      logits.emplace_back(next.begin(), next.end());
      const std::optional<int32_t> drawn = sampler.sample(next);
      if (!drawn) throw Error("model", "its logits are not finite", "check it with `mxgpt verify`");
      tokens.push_back(*drawn);
      if (std::find(stops.begin(), stops.end(), tokens.back()) != stops.end() ||
          static_cast<int64_t>(tokens.size()) == max_tokens)
        return;
      next = session_.feed({&tokens.back(), 1});
    }
  }

  /// The logits that led this model to each token of another one's answer.
  std::vector<std::vector<float>> read(std::span<const int32_t> prompt,
                                       std::span<const int32_t> answer) {
    std::vector<std::vector<float>> result;
    const auto keep = [&](std::span<const float> next) {
      if (!std::isfinite(log_sum_exp(next))) {
        throw Error(model_.path().string(), "its logits are not finite",
                    "check the file with `mxgpt verify`");
      }
      result.emplace_back(next.begin(), next.end());
    };
    keep(start(prompt));
    if (answer.size() > 1) {
      session_.feed(answer.first(answer.size() - 1),
                    [&](int64_t, std::span<const float> next) { keep(next); });
    }
    return result;
  }

  std::vector<int32_t> tokens;
  std::vector<std::vector<float>> logits;  ///< [tokens][vocabulary]

 private:
  static SessionOptions with_room(SessionOptions options, int64_t longest) {
    options.context = longest;
    options.all_logits = true;
    return options;
  }

  std::span<const float> start(std::span<const int32_t> prompt) {
    const int64_t known = session_.rewind_to_common_prefix(prompt);
    return session_.feed(prompt.subspan(known));
  }

  const Model& model_;
  Session session_;
};

using Logits = std::vector<std::vector<float>>;

Answer compare(const std::vector<int32_t>& tokens, const Logits& writer, const Logits& reader) {
  Answer answer{.tokens = tokens};
  for (size_t at = 0; at < tokens.size(); ++at) {
    const double writer_total = log_sum_exp(writer[at]), reader_total = log_sum_exp(reader[at]);
    double divergence = 0;
    for (size_t i = 0; i < writer[at].size(); ++i) {
      const double p = writer[at][i] - writer_total, q = reader[at][i] - reader_total;
      divergence += std::exp(p) * (p - q);
    }
    divergence = std::max(divergence, 0.0);  // what is all but zero may round to below it
    answer.divergence += divergence;
    if (divergence > answer.worst) {
      answer.worst = divergence;
      answer.worst_token = static_cast<int64_t>(at);
    }
    const int32_t token = tokens[at];
    answer.log_likelihood_ratio +=
        (writer[at][token] - writer_total) - (reader[at][token] - reader_total);
  }
  return answer;
}

/// Both models' answers to a prompt with the same uniform numbers.
void answer_prompt(Speaker& reference, Speaker& candidate, std::span<const int32_t> prompt,
                   std::span<const int32_t> stops, const SamplingParams& sampling,
                   int64_t max_tokens, PromptAnswers& answers) {
  reference.write(prompt, stops, sampling, max_tokens);
  candidate.write(prompt, stops, sampling, max_tokens);
  const Logits ours = reference.logits, theirs = candidate.logits;
  const std::vector<int32_t> written = reference.tokens;
  // Who wrote the same has read it already.
  const bool same = written == candidate.tokens;
  answers.reference.push_back(
      compare(written, ours, same ? theirs : candidate.read(prompt, written)));
  answers.candidate.push_back(
      compare(candidate.tokens, theirs, same ? ours : reference.read(prompt, candidate.tokens)));
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// Robust z-scores of ln(value + negligible): divergences of prompts are spread over orders of
/// magnitude, of which those below `negligible` mean nothing.
std::vector<double> log_z_scores(const std::vector<double>& values, double negligible) {
  // Where nearly all prompts are negligible, one does not stand out by less than a factor of
  // e^(3.5 / 4) = 2.4.
  constexpr double kLeastDeviation = 0.25;
  std::vector<double> logs, off;
  for (const double v : values) logs.push_back(std::log(v + negligible));
  const double center = median(logs);
  for (const double l : logs) off.push_back(std::abs(l - center));
  const double deviation = std::max(1.4826 * median(off), kLeastDeviation);
  for (double& l : logs) l = (l - center) / deviation;
  return logs;
}

}  // namespace

std::vector<PromptAnswers> answer_prompts(const Model& reference, const Model& candidate,
                                          std::span<const std::vector<int32_t>> prompts,
                                          std::span<const int32_t> stops,
                                          const BehaviourOptions& options,
                                          const std::function<void(int64_t)>& progress) {
  int64_t longest = 0;
  for (const auto& prompt : prompts) {
    if (prompt.empty()) throw Error("prompt", "is empty");
    longest = std::max(longest, std::ssize(prompt) + options.max_tokens);
  }
  const int64_t context = std::min(reference.config().context, candidate.config().context);
  if (longest > context) {
    throw Error("prompt",
                fmt::format("the longest and its answer are {} tokens; the models' context "
                            "is {}",
                            longest, context),
                "leave it out");
  }
  Speaker ours(reference, options.reference, longest),
      theirs(candidate, options.candidate, longest);
  std::vector<PromptAnswers> result;
  for (const auto& prompt : prompts) {
    PromptAnswers& answers = result.emplace_back();
    for (int64_t seed = 0; seed <= options.seeds; ++seed) {
      const SamplingParams sampling{.temperature = seed ? 1.0 : 0.0,
                                    .seed = static_cast<uint64_t>(seed)};
      answer_prompt(ours, theirs, prompt, stops, sampling, options.max_tokens, answers);
    }
    progress(1);
  }
  return result;
}

BehaviourVerdict judge_behaviour(std::span<const PromptAnswers> answers) {
  BehaviourVerdict verdict;
  if (answers.empty()) return verdict;
  std::vector<double> means, worsts;
  for (const PromptAnswers& prompt : answers) {
    double divergence = 0, worst = 0, tokens = 0;
    for (const auto* side : {&prompt.reference, &prompt.candidate}) {
      for (const Answer& a : *side) {
        divergence += a.divergence;
        worst = std::max(worst, a.worst);
        tokens += static_cast<double>(a.tokens.size());
      }
    }
    means.push_back(divergence / tokens);
    worsts.push_back(worst);
  }
  verdict.ordinary_divergence = median(means);
  verdict.least_evidence =
      std::log(static_cast<double>(answers.size()) / BehaviourVerdict::kFalseAlarms);
  const std::vector<double> z_mean = log_z_scores(means, BehaviourVerdict::kNegligibleMean),
                            z_worst = log_z_scores(worsts, BehaviourVerdict::kNegligibleWorst);
  for (size_t i = 0; i < answers.size(); ++i) {
    PromptVerdict v{.mean_divergence = means[i],
                    .worst_divergence = worsts[i],
                    .z_mean = z_mean[i],
                    .z_worst = z_worst[i]};
    for (size_t s = 0; s < answers[i].candidate.size(); ++s) {
      const Answer& ours = answers[i].reference[s];
      const Answer& theirs = answers[i].candidate[s];
      const auto tokens = static_cast<double>(theirs.tokens.size());
      v.diverged += ours.tokens != theirs.tokens;
      // The greedy answer is no sample: its likelihood ratio has no mean of 1.
      if (s > 0) v.evidence += theirs.log_likelihood_ratio - tokens * verdict.ordinary_divergence;
    }
    v.flagged = answers.size() >= BehaviourVerdict::kFewestPrompts &&
                std::max(v.z_mean, v.z_worst) > BehaviourVerdict::kOutlier &&
                v.evidence > verdict.least_evidence && v.diverged > 0;
    verdict.flagged += v.flagged;
    verdict.prompts.push_back(v);
  }
  return verdict;
}

}  // namespace mxgpt
