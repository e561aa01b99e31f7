#include "eval/acceptance.h"

#include <gmock/gmock.h>

#include <cmath>

namespace mxgpt::eval {
namespace {

/// Summary of 60,000 tokens, with intervals of ±20% of the value.
ComparisonSummary summary(double ratio, double kld, double top1) {
  const auto estimate = [](double value) {
    return Estimate{value, .1 * value, value - .2 * std::abs(value), value + .2 * std::abs(value),
                    60'000};
  };
  ComparisonSummary s{.positions = 60'000, .scored = 60'000};
  s.ln_ppl_ratio = estimate(ratio);
  s.kld = estimate(kld);
  s.top1 = {top1, .001, top1 - .002, top1 + .002, 60'000};
  s.kld_p99 = 10 * kld;
  s.max_logprob_error = 20 * kld;
  return s;
}

Outcome outcome_of(const AcceptanceCriteria& criteria, const ComparisonSummary& s) {
  const auto results = check_criteria(criteria, s);
  EXPECT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].reason.empty(), results[0].outcome != Outcome::inconclusive);
  return overall_outcome(results);
}

TEST(AcceptanceCriteria, CheckTheWholeInterval) {
  EXPECT_EQ(outcome_of({.max_kld = 1.3e-3}, summary(0, 1e-3, 1)), Outcome::pass);
  EXPECT_EQ(outcome_of({.max_kld = 1.1e-3}, summary(0, 1e-3, 1)), Outcome::inconclusive);
  EXPECT_EQ(outcome_of({.max_kld = 0.9e-3}, summary(0, 1e-3, 1)), Outcome::inconclusive);
  EXPECT_EQ(outcome_of({.max_kld = 0.7e-3}, summary(0, 1e-3, 1)), Outcome::fail);
  EXPECT_EQ(outcome_of({.min_top1 = .985}, summary(0, 0, .99)), Outcome::pass);
  EXPECT_EQ(outcome_of({.min_top1 = .985}, summary(0, 0, .986)), Outcome::inconclusive);
  EXPECT_EQ(outcome_of({.min_top1 = .985}, summary(0, 0, .98)), Outcome::fail);
  for (const double sign : {-1, 1}) {
    EXPECT_EQ(outcome_of({.max_ln_ppl = .01}, summary(sign * .008, 0, 1)), Outcome::pass);
    EXPECT_EQ(outcome_of({.max_ln_ppl = .01}, summary(sign * .009, 0, 1)), Outcome::inconclusive);
    EXPECT_EQ(outcome_of({.max_ln_ppl = .01}, summary(sign * .013, 0, 1)), Outcome::fail);
    EXPECT_EQ(outcome_of({.equivalence = .01}, summary(sign * .008, 0, 1)), Outcome::pass);
    EXPECT_EQ(outcome_of({.equivalence = .01}, summary(sign * .013, 0, 1)), Outcome::fail);
  }
  EXPECT_EQ(outcome_of({.max_logprob_error = 2e-3}, summary(0, 1e-4, 1)), Outcome::pass);
  EXPECT_EQ(outcome_of({.max_logprob_error = 1.9e-3}, summary(0, 1e-4, 1)), Outcome::fail);
}

TEST(AcceptanceCriteria, AreInconclusiveWithTooLittleText) {
  ComparisonSummary s = summary(.001, 1e-3, .99);
  s.scored = 49'999;
  EXPECT_EQ(outcome_of({.equivalence = .01}, s), Outcome::inconclusive);
  EXPECT_EQ(outcome_of({.max_ln_ppl = .01}, s), Outcome::pass);
  s.positions = 999;
  EXPECT_EQ(outcome_of({.max_kld_p99 = 1}, s), Outcome::inconclusive);
  s.kld.low = -INFINITY, s.kld.high = INFINITY;  // one cluster
  EXPECT_EQ(outcome_of({.max_kld = 1}, s), Outcome::inconclusive);
  s.ln_ppl_ratio = clustered_mean({}, {});  // unknown from stored top tokens
  EXPECT_EQ(outcome_of({.max_ln_ppl = .01}, s), Outcome::inconclusive);
}

TEST(AcceptanceCriteria, CombineToTheWorstOutcome) {
  const CriterionResult holds{"", "", Outcome::pass, ""}, fails{"", "", Outcome::fail, ""},
      undecided{"", "", Outcome::inconclusive, ""};
  EXPECT_EQ(overall_outcome({}), Outcome::pass);
  EXPECT_EQ(overall_outcome({holds, undecided, holds}), Outcome::inconclusive);
  EXPECT_EQ(overall_outcome({undecided, fails, holds}), Outcome::fail);
}

}  // namespace
}  // namespace mxgpt::eval
