// Expected values are from numpy, by the formulas in the header.
#include "eval/statistics.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>
#include <vector>

namespace mxgpt::eval {
namespace {

TEST(ClusteredMean, EqualsTheFormula) {
  const std::vector<double> samples{1, 2, 4, 3, 3, 0, 5, 1, 2.5};
  const std::vector<int32_t> cluster{0, 0, 0, 1, 1, 2, 2, 2, 2};
  const Estimate e = clustered_mean(samples, cluster);
  EXPECT_NEAR(e.value, 2.388888888888889, 1e-14);
  EXPECT_NEAR(e.standard_error, 0.2209324712120158, 1e-14);
  EXPECT_NEAR(e.low, 1.438293188502465, 1e-9);
  EXPECT_NEAR(e.high, 3.3394845892753127, 1e-9);
  EXPECT_EQ(e.samples, 9);
}

TEST(ClusteredMean, OneClusterHasNoInterval) {
  const Estimate e = clustered_mean(std::vector<double>{1, 2}, std::vector<int32_t>{0, 0});
  EXPECT_EQ(e.value, 1.5);
  EXPECT_FALSE(e.has_interval());
  EXPECT_FALSE(clustered_mean({}, {}).has_interval());
}

TEST(ClusteredMean, IntervalsHaveTheirNominalCoverage) {
  // Samples with a common offset per cluster. Intervals that assume independence would cover the
  // true mean in about half of the trials.
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  int covered = 0;
  constexpr int kTrials = 2000;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<double> samples;
    std::vector<int32_t> cluster;
    for (int c = 0; c < 40; ++c) {
      const double cluster_offset = normal(random);
      for (int i = 0; i < 5 + c % 10; ++i) {
        samples.push_back(3 + cluster_offset + normal(random));
        cluster.push_back(c);
      }
    }
    const Estimate e = clustered_mean(samples, cluster);
    covered += e.low <= 3 && 3 <= e.high;
  }
  EXPECT_NEAR(covered / static_cast<double>(kTrials), 0.95, 0.02);
}

TEST(ClusteredProportion, EqualsTheFormula) {
  const std::vector<double> samples{0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1};
  const std::vector<int32_t> cluster{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  const Estimate e = clustered_proportion(samples, cluster);
  EXPECT_EQ(e.value, 0.75);
  EXPECT_NEAR(e.low, 0.21565691735549042, 1e-8);
  EXPECT_NEAR(e.high, 0.9703553970069901, 1e-8);
}

TEST(ClusteredProportion, OfOnesOnlyHasALowerBound) {
  const std::vector<double> samples(12, 1);
  const std::vector<int32_t> cluster{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2};
  const Estimate e = clustered_proportion(samples, cluster);
  EXPECT_NEAR(e.low, 0.7575059904469021, 1e-6);
  EXPECT_EQ(e.high, 1);
}

TEST(Quantile, EqualsNumpys) {
  const std::vector<float> sorted{1, 2, 4, 8};
  EXPECT_EQ(quantile(sorted, 0), 1);
  EXPECT_EQ(quantile(sorted, 0.5), 3);
  EXPECT_NEAR(quantile(sorted, 0.9), 6.8, 1e-12);
  EXPECT_EQ(quantile(sorted, 1), 8);
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
}

}  // namespace
}  // namespace mxgpt::eval
