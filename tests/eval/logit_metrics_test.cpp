// Distributions whose metrics can be computed by hand.
#include "eval/logit_metrics.h"

#include <gmock/gmock.h>

#include <cmath>

#include "eval/teacher_forcing.h"

namespace mxgpt::eval {
namespace {

using testing::ElementsAre;

std::vector<float> logits_of(std::vector<double> probabilities, double shift = 0) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p) + shift));
  return logits;
}

const std::vector<double> kP{.4, .2, .1, .08, .07, .06, .05, .03, .01};
const std::vector<double> kQ{.2, .4, .1, .07, .08, .05, .06, .03, .01};
const double kKld = .4 * std::log(2) + .2 * std::log(.5) + .08 * std::log(8. / 7) +
                    .07 * std::log(7. / 8) + .06 * std::log(6. / 5) + .05 * std::log(5. / 6);

TEST(MakeDistribution, SortsAndNormalizes) {
  const auto logits = logits_of(kQ, 100);
  const TokenDistribution d = make_distribution(logits);
  EXPECT_THAT(d.top, ElementsAre(1, 0, 2, 4, 3, 6, 5, 7));
  EXPECT_NEAR(d.logprob(2), std::log(.1), 1e-5);
  const std::vector<float> equal(20, 1.5f);
  EXPECT_THAT(make_distribution(equal).top, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST(LogSumExp, DoesNotOverflow) {
  EXPECT_NEAR(log_sum_exp(std::vector<float>{1000, 1000}), 1000 + std::log(2), 1e-10);
  EXPECT_TRUE(std::isnan(log_sum_exp(std::vector<float>{1, NAN})));
}

TEST(CompareDistributions, EqualsTheDefinitions) {
  const auto a = logits_of(kP, 3), b = logits_of(kQ, -7);
  const PositionMetrics p = compare_distributions(make_distribution(a), make_distribution(b), 1);
  EXPECT_NEAR(p.kld, kKld, 1e-6);
  EXPECT_NEAR(p.logprob_error, std::log(2), 1e-5);
  EXPECT_NEAR(p.reference_nll, -std::log(.2), 1e-5);
  EXPECT_NEAR(p.candidate_nll, -std::log(.4), 1e-5);
  EXPECT_NEAR(p.reference_confidence, .4, 1e-6);
  EXPECT_EQ(p.top5_overlap, 5);
  EXPECT_FALSE(p.same_top1);
  EXPECT_FALSE(p.reference_correct);
  EXPECT_TRUE(p.candidate_correct);
}

TEST(CompareDistributions, OfEqualLogitsGivesZero) {
  const auto a = logits_of(kP);
  const PositionMetrics p =
      compare_distributions(make_distribution(a), make_distribution(a), kNoToken);
  EXPECT_EQ(p.kld, 0);
  EXPECT_EQ(p.logprob_error, 0);
  EXPECT_TRUE(p.same_top1);
  EXPECT_TRUE(std::isnan(p.reference_nll) && std::isnan(p.candidate_nll));
}

TEST(CompareDistributions, StoredTopTokensCountTheRemainderAsOneToken) {
  std::vector<double> p(20, .02), q(20, .02);  // eight tokens and a remainder of twelve
  for (int i = 0; i < 8; ++i) {
    p[i] = (.76 - .01 * 28) / 8 + .01 * (8 - i) - .01;
    q[i] = p[i];
  }
  q[0] -= .03;
  q[12] += .03;
  const auto logits = logits_of(q);
  std::vector<int32_t> ids{0, 1, 2, 3, 4, 5, 6, 7};
  std::vector<float> logprobs;
  double kept_p = 0, kept_q = 0, kld = 0;
  for (int i = 0; i < 8; ++i) {
    logprobs.push_back(static_cast<float>(std::log(p[i])));
    kept_p += p[i];
    kept_q += q[i];
    kld += p[i] * std::log(p[i] / q[i]);
  }
  kld += (1 - kept_p) * std::log((1 - kept_p) / (1 - kept_q));
  const PositionMetrics position =
      compare_distributions({ids, logprobs}, make_distribution(logits), 12);
  EXPECT_NEAR(position.kld, kld, 1e-6);
  EXPECT_NEAR(position.logprob_error, std::log(p[0] / q[0]), 1e-6);
  EXPECT_TRUE(std::isnan(position.reference_nll));
  EXPECT_NEAR(position.candidate_nll, -std::log(.05), 1e-6);
}

TEST(Summarize, SkipsPositionsWithoutANextToken) {
  const auto a = logits_of(kP), b = logits_of(kQ);
  const TokenDistribution p = make_distribution(a), q = make_distribution(b);
  const std::vector<PositionMetrics> positions{
      compare_distributions(p, q, 0), compare_distributions(p, q, 2),
      compare_distributions(p, p, kNoToken), compare_distributions(p, q, 1)};
  const ComparisonSummary s = summarize(positions, std::vector<int32_t>{0, 0, 0, 1});
  EXPECT_EQ(s.positions, 4);
  EXPECT_EQ(s.scored, 3);
  EXPECT_NEAR(s.ln_ppl_ratio.value, 0, 1e-6);  // ln 2, 0, -ln 2
  EXPECT_NEAR(s.kld.value, .75 * kKld, 1e-6);
  EXPECT_NEAR(s.kld_max, kKld, 1e-6);
  EXPECT_NEAR(s.top1.value, .25, 1e-12);
  EXPECT_NEAR(s.probability_rms, std::sqrt((.04 + 0 + .04) / 3), 1e-6);
  EXPECT_EQ(s.histogram[0], 1);
  EXPECT_EQ(s.reference_calibration[4].count + s.reference_calibration[3].count, 3);
  EXPECT_NEAR(s.reference_calibration[4].accuracy + s.reference_calibration[3].accuracy, 1 / 3.,
              1e-9);
  EXPECT_EQ(summarize({}, {}).positions, 0);
}

}  // namespace
}  // namespace mxgpt::eval
