#include "engine/sampler.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "base/error.h"
#include "base/sampling_math.h"

namespace mxgpt::engine {
namespace {

/// Frequencies of the first sampled token over many seeds.
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
constexpr double kNear = 0.015;  // four standard deviations for 20,000 samples

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

TEST(Sampler, TopKTopPMinPKeepTheMostProbable) {
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
  // The presence penalty ignores the prompt, the repetition penalty does not.
  EXPECT_EQ(Sampler({.temperature = 0, .presence_penalty = 2}, prompt).sample(kLogits), 0);
  EXPECT_EQ(Sampler({.temperature = 0, .repetition_penalty = 3}, prompt).sample(kLogits), 1);
  EXPECT_EQ(Sampler({.temperature = 0, .logit_bias = {{3, 100}}}, {}).sample(kLogits), 3);
  EXPECT_EQ(Sampler({.temperature = 0, .logit_bias = {{0, -100}}}, {}).sample(kLogits), 1);
}

TEST(Sampler, SeedIsReproducible) {
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

TEST(Sampler, RandomNumbersAreAFunctionOfTheirIndex) {
  // First outputs of SplitMix64 with seed 0, from the authors' program.
  constexpr uint64_t kStep = 0x9e3779b97f4a7c15;
  EXPECT_EQ(splitmix64(0), 0xe220a8397b1dcdaf);
  EXPECT_EQ(splitmix64(kStep), 0x6e789e6aa1b965f4);
  EXPECT_EQ(splitmix64(2 * kStep), 0x06c45d188009454f);
  EXPECT_NE(random_stream(1, 0), random_stream(1, 1));
  EXPECT_NE(random_stream(1, 0), random_stream(2, 0));
}

/// Samples by definition: sorts all candidates and sums fixed-point weights.
int32_t expected_sample(const std::vector<float>& logits, const SamplingParams& p, double u) {
  const float max_logit = *std::max_element(logits.begin(), logits.end());
  const auto scale = static_cast<float>(1 / p.temperature);
  std::vector<Candidate> all;
  for (size_t t = 0; t < logits.size(); ++t)
    all.push_back({logits[t], exp_weight(logits[t], max_logit, scale), static_cast<int32_t>(t)});
  std::sort(all.begin(), all.end(), more_probable);
  if (p.top_k > 0) all.resize(std::min<size_t>(all.size(), p.top_k));
  if (p.top_p < 1) {
    uint64_t total = 0, cumulative = 0;
    for (const Candidate& c : all) total += to_fixed_point(c.weight);
    const uint64_t target = p.top_k > 0
                                ? static_cast<uint64_t>(p.top_p * static_cast<double>(total))
                                : sum_to_fixed_point(p.top_p * sum_exp(logits, max_logit, scale));
    size_t count = 0;
    while (count < all.size() && (count == 0 || cumulative < target))
      cumulative += to_fixed_point(all[count++].weight);
    all.resize(count);
  }
  std::erase_if(all, [&](const Candidate& c) { return static_cast<double>(c.weight) < p.min_p; });
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.token < b.token; });
  uint64_t total = 0, passed = 0;
  for (const Candidate& c : all) total += to_fixed_point(c.weight);
  const auto at = std::min(static_cast<uint64_t>(u * static_cast<double>(total)), total - 1);
  for (const Candidate& c : all) {
    if ((passed += to_fixed_point(c.weight)) > at) return c.token;
  }
  return -1;
}

TEST(Sampler, SamplesMatchTheDefinition) {
  std::mt19937 random(3);
  const auto among = [&](auto... values) {
    const double all[] = {static_cast<double>(values)...};
    return all[random() % std::size(all)];
  };
  for (uint64_t seed = 0; seed < 400; ++seed) {
    std::normal_distribution<float> normal(0, static_cast<float>(among(0.1, 1, 4)));
    std::vector<float> logits(1 + random() % 3000);
    // Coarse values, so that some are equal.
    for (float& logit : logits) logit = std::round(normal(random) * 64) / 64;
    SamplingParams params{.temperature = among(0.3, 0.7, 1, 2),
                          .top_k = static_cast<int64_t>(among(0, 1, 3, 40, 5000)),
                          .top_p = among(0.0, 0.1, 0.5, 0.9, 0.999, 1),
                          .min_p = among(0.0, 0.05, 0.5, 1),
                          .seed = seed};
    if (params.top_k == 0 && params.top_p == 1 && params.min_p == 0) params.min_p = 1e-9;
    Sampler sampler(params, {});
    for (uint64_t draw = 0; draw < 5; ++draw)
      EXPECT_EQ(sampler.sample(logits),
                expected_sample(logits, params, uniform(random_stream(seed, 0), draw)));
  }
}

TEST(Sampler, NonFiniteLogitsAreAnError) {
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Sampler({}, {}).sample(std::vector<float>{1, nan, 2}), std::nullopt);
  EXPECT_EQ(Sampler({}, {}).sample(std::vector<float>{nan, nan}), std::nullopt);
  EXPECT_EQ(Sampler({}, {}).sample(std::vector<float>{1, inf}), std::nullopt);
  EXPECT_EQ(Sampler({}, {}).sample(std::vector<float>{-inf, -inf}), std::nullopt);
  EXPECT_EQ(Sampler({}, {}).sample(std::vector<float>{-inf, 1}), 1);
}

TEST(Sampler, OutOfRangeParametersAreNamed) {
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
}  // namespace mxgpt::engine
