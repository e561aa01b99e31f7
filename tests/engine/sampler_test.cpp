#include "engine/sampler.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"

namespace mxgpt {
namespace {

/// Shares of tokens among many draws of one answer each.
std::map<int32_t, double> shares(SamplingParams params, const std::vector<float>& logits,
                                 int draws = 20000) {
  std::map<int32_t, double> counts;
  for (int i = 0; i < draws; ++i) {
    params.seed = static_cast<uint64_t>(i);
    counts[Sampler(params, {}).sample(logits).value()] += 1.0 / draws;
  }
  return counts;
}

const std::vector<float> kLogits{std::log(0.5f), std::log(0.25f), std::log(0.15f), std::log(0.1f)};
constexpr double kNear = 0.015;  // four standard deviations of a share of 20,000 draws

TEST(Sampler, FollowsTheSoftmax) {
  const auto s = shares({}, kLogits);
  EXPECT_NEAR(s.at(0), 0.5, kNear);
  EXPECT_NEAR(s.at(1), 0.25, kNear);
  EXPECT_NEAR(s.at(3), 0.1, kNear);
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  const auto cold = shares({.temperature = 0.5}, kLogits);
  EXPECT_NEAR(cold.at(0), 0.25 / (0.25 + 0.0625 + 0.0225 + 0.01), kNear);
  EXPECT_EQ(shares({.temperature = 0}, kLogits, 100),
            (std::map<int32_t, double>{{0, shares({.temperature = 0}, kLogits, 100)[0]}}));
}

TEST(Sampler, TopKTopPMinPKeepTheLikeliest) {
  EXPECT_EQ(shares({.top_k = 2}, kLogits).size(), 2u);
  EXPECT_NEAR(shares({.top_k = 2}, kLogits).at(0), 2.0 / 3, kNear);
  EXPECT_EQ(shares({.top_p = 0.74}, kLogits).size(), 2u);
  EXPECT_EQ(shares({.top_p = 0.76}, kLogits).size(), 3u);
  EXPECT_EQ(shares({.top_p = 0}, kLogits).size(), 1u);
  EXPECT_EQ(shares({.min_p = 0.4}, kLogits).size(), 2u);
  EXPECT_EQ(shares({.min_p = 1}, kLogits).size(), 1u);
}

TEST(Sampler, PenaltiesAndBias) {
  Sampler presence({.temperature = 0, .presence_penalty = 0.8}, {});
  EXPECT_EQ(presence.sample(kLogits), 0);
  EXPECT_EQ(presence.sample(kLogits), 1);
  Sampler frequency({.temperature = 0, .frequency_penalty = 0.4}, {});
  EXPECT_EQ(frequency.sample(kLogits), 0);
  EXPECT_EQ(frequency.sample(kLogits), 0);
  EXPECT_EQ(frequency.sample(kLogits), 1);
  const int32_t prompt[] = {0};
  // Presence concerns the answer alone; repetition the prompt as well.
  EXPECT_EQ(Sampler({.temperature = 0, .presence_penalty = 2}, prompt).sample(kLogits), 0);
  EXPECT_EQ(Sampler({.temperature = 0, .repetition_penalty = 3}, prompt).sample(kLogits), 1);
  EXPECT_EQ(Sampler({.temperature = 0, .logit_bias = {{3, 100}}}, {}).sample(kLogits), 3);
  EXPECT_EQ(Sampler({.temperature = 0, .logit_bias = {{0, -100}}}, {}).sample(kLogits), 1);
}

TEST(Sampler, ASeedGivesTheSameDraws) {
  const std::vector<float> flat(1000, 0.0f);
  const auto draw = [&](uint64_t seed) {
    Sampler sampler({.seed = seed}, {});
    std::vector<int32_t> tokens;
    for (int i = 0; i < 20; ++i) tokens.push_back(sampler.sample(flat).value());
    return tokens;
  };
  EXPECT_EQ(draw(7), draw(7));
  EXPECT_NE(draw(7), draw(8));
}

TEST(Sampler, CollapsedLogitsAreAnError) {
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Sampler({}, {}).sample(std::vector<float>{1, nan, 2}), std::nullopt);
  EXPECT_EQ(Sampler({}, {}).sample(std::vector<float>{nan, nan}), std::nullopt);
  EXPECT_EQ(Sampler({}, {}).sample(std::vector<float>{1, inf}), std::nullopt);
  EXPECT_EQ(Sampler({}, {}).sample(std::vector<float>{-inf, -inf}), std::nullopt);
  EXPECT_EQ(Sampler({}, {}).sample(std::vector<float>{-inf, 1}), 1);
}

TEST(Sampler, ParametersOutOfRangeAreNamed) {
  const double nan = std::nan("");
  for (const SamplingParams& bad : std::vector<SamplingParams>{{.temperature = -0.1},
                                                               {.temperature = 2.1},
                                                               {.temperature = nan},
                                                               {.top_k = -1},
                                                               {.top_p = 1.1},
                                                               {.min_p = -1},
                                                               {.repetition_penalty = 0},
                                                               {.presence_penalty = 3},
                                                               {.frequency_penalty = -3},
                                                               {.logit_bias = {{0, 101}}},
                                                               {.logit_bias = {{10, 1}}},
                                                               {.logit_bias = {{-1, 1}}}}) {
    EXPECT_THROW(bad.check(10), Error);
  }
  EXPECT_NO_THROW(SamplingParams{}.check(10));
}

}  // namespace
}  // namespace mxgpt
