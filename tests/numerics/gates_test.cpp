#include "numerics/gates.h"

#include <gmock/gmock.h>

#include <cmath>

namespace mxgpt {
namespace {

/// Of 60,000 tokens, with intervals that are ±20% of the value.
Summary summary(double ratio, double kld, double top1) {
  const auto estimate = [](double value) {
    return Estimate{value, .1 * value, value - .2 * std::abs(value), value + .2 * std::abs(value),
                    60'000};
  };
  Summary s{.positions = 60'000, .scored = 60'000};
  s.ln_ppl_ratio = estimate(ratio);
  s.kld = estimate(kld);
  s.top1 = {top1, .001, top1 - .002, top1 + .002, 60'000};
  s.kld_p99 = 10 * kld;
  s.logprob_error = 20 * kld;
  return s;
}

Outcome of(const Gates& gates, const Summary& s) {
  const auto verdicts = judge(gates, s);
  EXPECT_EQ(verdicts.size(), 1u);
  EXPECT_EQ(verdicts[0].reason.empty(), verdicts[0].outcome != Outcome::undecided);
  return overall(verdicts);
}

TEST(Gates, LookAtTheWholeInterval) {
  EXPECT_EQ(of({.max_kld = 1.3e-3}, summary(0, 1e-3, 1)), Outcome::holds);
  EXPECT_EQ(of({.max_kld = 1.1e-3}, summary(0, 1e-3, 1)), Outcome::undecided);
  EXPECT_EQ(of({.max_kld = 0.9e-3}, summary(0, 1e-3, 1)), Outcome::undecided);
  EXPECT_EQ(of({.max_kld = 0.7e-3}, summary(0, 1e-3, 1)), Outcome::fails);
  EXPECT_EQ(of({.min_top1 = .985}, summary(0, 0, .99)), Outcome::holds);
  EXPECT_EQ(of({.min_top1 = .985}, summary(0, 0, .986)), Outcome::undecided);
  EXPECT_EQ(of({.min_top1 = .985}, summary(0, 0, .98)), Outcome::fails);
  for (const double sign : {-1, 1}) {
    EXPECT_EQ(of({.max_ln_ppl = .01}, summary(sign * .008, 0, 1)), Outcome::holds);
    EXPECT_EQ(of({.max_ln_ppl = .01}, summary(sign * .009, 0, 1)), Outcome::undecided);
    EXPECT_EQ(of({.max_ln_ppl = .01}, summary(sign * .013, 0, 1)), Outcome::fails);
    EXPECT_EQ(of({.equivalence = .01}, summary(sign * .008, 0, 1)), Outcome::holds);
    EXPECT_EQ(of({.equivalence = .01}, summary(sign * .013, 0, 1)), Outcome::fails);
  }
  EXPECT_EQ(of({.max_logprob_error = 2e-3}, summary(0, 1e-4, 1)), Outcome::holds);
  EXPECT_EQ(of({.max_logprob_error = 1.9e-3}, summary(0, 1e-4, 1)), Outcome::fails);
}

TEST(Gates, CannotDecideWithTooLittleText) {
  Summary s = summary(.001, 1e-3, .99);
  s.scored = 49'999;
  EXPECT_EQ(of({.equivalence = .01}, s), Outcome::undecided);
  EXPECT_EQ(of({.max_ln_ppl = .01}, s), Outcome::holds);
  s.positions = 999;
  EXPECT_EQ(of({.max_kld_p99 = 1}, s), Outcome::undecided);
  s.kld.low = -INFINITY, s.kld.high = INFINITY;  // one cluster
  EXPECT_EQ(of({.max_kld = 1}, s), Outcome::undecided);
  s.ln_ppl_ratio = clustered_mean({}, {});  // stored tops do not know it
  EXPECT_EQ(of({.max_ln_ppl = .01}, s), Outcome::undecided);
}

TEST(Gates, TogetherTheWorstCounts) {
  const Verdict holds{"", "", Outcome::holds, ""}, fails{"", "", Outcome::fails, ""},
      undecided{"", "", Outcome::undecided, ""};
  EXPECT_EQ(overall({}), Outcome::holds);
  EXPECT_EQ(overall({holds, undecided, holds}), Outcome::undecided);
  EXPECT_EQ(overall({undecided, fails, holds}), Outcome::fails);
}

}  // namespace
}  // namespace mxgpt
