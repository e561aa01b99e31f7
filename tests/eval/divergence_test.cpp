// Tests which prompts the divergence test flags. tests/cli/test_validate_checks.py has a tampered
// model.
#include "eval/divergence.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "runtime/model.h"
#include "support/nano.h"

namespace mxgpt::eval {
namespace {

constexpr double kMedian = 0.01;  // nats per token

/// Completions of one prompt by an honest pair of models: one greedy, three sampled, 50 tokens
/// each. The divergence varies by a factor of about two; likelihood ratios are distributed
/// accordingly.
PromptCompletions honest(std::mt19937& random, double level = kMedian) {
  std::normal_distribution<double> normal;
  const double divergence = level * std::exp(0.7 * normal(random));
  PromptCompletions prompt;
  for (int seed = 0; seed <= 3; ++seed) {
    ScoredCompletion completion{.tokens = std::vector<int32_t>(50, 7)};
    completion.divergence = 50 * divergence;
    completion.max_divergence = 10 * divergence;
    completion.log_likelihood_ratio =
        completion.divergence + std::sqrt(2 * completion.divergence) * normal(random);
    prompt.reference.push_back(completion);
    if (random() % 4 == 0) completion.tokens.back() = 8;
    prompt.candidate.push_back(completion);
  }
  return prompt;
}

std::vector<PromptCompletions> honest_pair(size_t prompts, double level = kMedian) {
  std::mt19937 random(3);
  std::vector<PromptCompletions> pair(prompts);
  for (auto& prompt : pair) prompt = honest(random, level);
  return pair;
}

/// Makes the candidate write something else, with as much confidence as the reference has in the
/// original.
void tamper(PromptCompletions& prompt) {
  for (auto* side : {&prompt.reference, &prompt.candidate}) {
    for (ScoredCompletion& completion : *side) {
      completion.divergence += 8;
      completion.max_divergence = 8;
      completion.log_likelihood_ratio += 8;
    }
  }
  for (ScoredCompletion& completion : prompt.candidate) completion.tokens[3] = 99;
}

TEST(Divergence, HonestPairsAreNotFlagged) {
  for (const double level : {0.0, 1e-6, 1e-3, 1e-2, 0.1, 0.5}) {
    const DivergenceVerdict verdict = evaluate_divergence(honest_pair(200, level));
    EXPECT_EQ(verdict.flagged, 0) << level;
    EXPECT_TRUE(verdict.is_conclusive());
  }
}

TEST(Divergence, TamperedPromptsAreFlagged) {
  for (const double level : {0.0, 1e-6, 1e-3, 1e-2}) {
    std::vector<PromptCompletions> pair = honest_pair(40, level);
    for (const size_t i : {3, 17, 38}) tamper(pair[i]);
    const DivergenceVerdict verdict = evaluate_divergence(pair);
    EXPECT_EQ(verdict.flagged, 3) << level;
    for (size_t i = 0; i < pair.size(); ++i)
      EXPECT_EQ(verdict.prompts[i].flagged, i == 3 || i == 17 || i == 38) << level << " " << i;
  }
}

/// Flagging needs all three conditions.
TEST(Divergence, OneConditionAloneDoesNotFlag) {
  auto pair = honest_pair(40);
  tamper(pair[5]);
  for (size_t s = 0; s < 4; ++s) pair[5].candidate[s].tokens = pair[5].reference[s].tokens;
  EXPECT_EQ(evaluate_divergence(pair).flagged, 0) << "equal completions";

  pair = honest_pair(40);
  tamper(pair[5]);
  for (ScoredCompletion& completion : pair[5].candidate) completion.log_likelihood_ratio = 1;
  EXPECT_EQ(evaluate_divergence(pair).flagged, 0)
      << "completions that are plausible under the reference";

  pair = honest_pair(40);
  for (PromptCompletions& prompt : pair) tamper(prompt);
  EXPECT_EQ(evaluate_divergence(pair).flagged, 0) << "all prompts diverge alike";
}

TEST(Divergence, FewPromptsAreInconclusive) {
  auto pair = honest_pair(11);
  tamper(pair[5]);
  EXPECT_FALSE(evaluate_divergence(pair).is_conclusive());
  EXPECT_EQ(evaluate_divergence(pair).flagged, 0);
  EXPECT_FALSE(evaluate_divergence({}).is_conclusive());
}

TEST(Divergence, OfAModelFromItselfIsZero) {
  const auto model = runtime::Model::open(kNano);
  const std::vector<std::vector<int32_t>> prompts = {{500, 501, 502}, {17, 900, 4000, 33}};
  int64_t done = 0;
  const std::vector<PromptCompletions> completions =
      complete_prompts(*model, *model, prompts, model->stop_tokens(),
                       {.seeds = 2, .max_tokens = 12}, [&](int64_t n) { done += n; });
  EXPECT_EQ(done, 2);
  for (const PromptCompletions& prompt : completions) {
    ASSERT_EQ(prompt.reference.size(), 3u);
    for (size_t s = 0; s < 3; ++s) {
      EXPECT_EQ(prompt.reference[s].tokens, prompt.candidate[s].tokens);
      EXPECT_LE(prompt.reference[s].tokens.size(), 12u);
      EXPECT_EQ(prompt.candidate[s].divergence, 0);
      EXPECT_EQ(prompt.candidate[s].log_likelihood_ratio, 0);
    }
    EXPECT_NE(prompt.reference[1].tokens, prompt.reference[2].tokens) << "seeds have no effect";
  }
}

/// Scoring gives the same result whether the reader wrote the completion or read it.
TEST(Divergence, ScoringAgreesWithWriting) {
  const auto model = runtime::Model::open(kNano);
  const std::vector<std::vector<int32_t>> prompts = {{500, 501, 502, 17, 900, 4000, 33}};
  const auto pair = complete_prompts(
      *model, *model, prompts, model->stop_tokens(),
      {.candidate = {.precision = backend::Precision::exact}, .seeds = 3, .max_tokens = 24},
      [](int64_t) {});
  double divergence = 0, ratio = 0;
  for (const ScoredCompletion& completion : pair[0].candidate) {
    divergence += completion.divergence;
    ratio += completion.log_likelihood_ratio;
    EXPECT_GE(completion.divergence, completion.max_divergence);
    EXPECT_LT(completion.max_divergence_token, std::ssize(completion.tokens));
  }
  // Two precisions of one model are close on every completion.
  EXPECT_GT(divergence, 0);
  EXPECT_LT(divergence, 96 * 0.05);
  EXPECT_LT(std::abs(ratio), 96 * 0.05);
}

}  // namespace
}  // namespace mxgpt::eval
