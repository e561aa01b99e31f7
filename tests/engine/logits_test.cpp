#include "engine/logits.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "engine/logprobs.h"
#include "engine/sampler.h"

namespace mxgpt::engine {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(size_t count, uint32_t seed, float spread = 4) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(-3, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(generator);
  return logits;
}

TEST(Logits, MaxLogitFindsMaximumAndNan) {
  for (const size_t size : {1, 7, 8, 9, 1000, 8064}) {
    std::vector<float> logits = random_logits(size, 1);
    const auto best = std::max_element(logits.begin(), logits.end());
    EXPECT_EQ(find_max_logit(logits), *best);
    EXPECT_EQ(find_first(logits, *best), best - logits.begin());
    for (const size_t at : {size_t{0}, size / 2, size - 1}) {
      std::vector<float> bad = logits;
      bad[at] = std::nanf("");
      EXPECT_TRUE(std::isnan(find_max_logit(bad))) << at;
      bad[at] = kInf;
      EXPECT_EQ(find_max_logit(bad), kInf);
    }
  }
  EXPECT_EQ(find_max_logit(std::vector<float>(20, -kInf)), -kInf);
}

TEST(Logits, WeightsAgreeWithDouble) {
  for (const size_t size : {1, 9, 511, 513, 8064}) {
    for (const float scale : {0.5f, 1.0f, 3.0f, 1e6f}) {
      std::vector<float> logits = random_logits(size, 2, 20);
      if (size > 1) logits[size / 2] = -kInf;
      const float max_logit = find_max_logit(logits);
      double sum = 0;
      for (const float l : logits) sum += std::exp((static_cast<double>(l) - max_logit) * scale);
      EXPECT_NEAR(sum_exp(logits, max_logit, scale) / sum, 1, 2e-6);
    }
  }
}

TEST(Logits, ScalarAndVectorWeightsAreEqual) {
  for (const float scale : {0.5f, 0.7f, 1.0f, 3.0f, 1e6f}) {
    const std::vector<float> logits = random_logits(1003, 5, 20);
    const float max_logit = find_max_logit(logits);
    std::vector<Candidate> all;
    collect_candidates(logits, max_logit, scale, kInf, all);
    ASSERT_EQ(all.size(), logits.size());
    for (size_t t = 0; t < all.size(); ++t)
      EXPECT_EQ(all[t].weight, exp_weight(logits[t], max_logit, scale)) << logits[t] - max_logit;
  }
}

TEST(Logits, TokenAtCdfInvertsTheCdf) {
  std::vector<float> logits = random_logits(3000, 3, 2);
  for (size_t t = 0; t < logits.size(); t += 3) logits[t] = -kInf;
  for (size_t t = 512; t < 1536; ++t) logits[t] = -kInf;  // whole blocks of weight 0
  const float max_logit = find_max_logit(logits);
  double total = 0, before = 0;
  for (const float l : logits) total += std::exp(static_cast<double>(l) - max_logit);
  for (size_t t = 0; t < logits.size(); ++t) {
    const double w = std::exp(static_cast<double>(logits[t]) - max_logit);
    if (w / total > 1e-5) {
      EXPECT_EQ(token_at_cdf(logits, max_logit, 1, (before + w / 2) / total), t);
    }
    before += w;
  }
  for (const double u : {0.0, std::nextafter(1.0, 0.0)})
    EXPECT_TRUE(std::isfinite(logits[token_at_cdf(logits, max_logit, 1, u)]));
  const std::vector<float> alone{-kInf, -kInf, -200, 3, -kInf};
  for (const double u : {0.0, 0.5, std::nextafter(1.0, 0.0)})
    EXPECT_EQ(token_at_cdf(alone, 3, 1, u), 3);
}

/// Compares every combination of filters with a direct implementation of their definition.
TEST(Logits, FiltersKeepTheDefinedTokens) {
  for (const uint32_t seed : {1u, 2u}) {
    const std::vector<float> logits = random_logits(2000, seed, seed == 1 ? 1.5f : 4.0f);
    std::vector<int32_t> order(logits.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    std::sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
    for (const double temperature : {0.3, 1.0, 2.0}) {
      for (const int64_t k : {0, 1, 5, 300}) {
        for (const double p : {1.0, 0.99, 0.6, 0.0}) {
          for (const double min_p : {0.0, 0.001, 0.3}) {
            std::vector<double> weights;
            for (const int32_t t : order)
              weights.push_back(std::exp((logits[t] - logits[order[0]]) / temperature));
            if (k > 0) weights.resize(k);
            double total = 0, sum = 0;
            for (const double w : weights) total += w;
            std::set<int32_t> kept;
            for (size_t i = 0; i < weights.size(); ++i) {
              if (i > 0 && (p < 1 && sum >= p * total)) break;
              if (weights[i] < min_p) break;
              sum += weights[i];
              kept.insert(order[i]);
            }

            for (int draw = 0; draw < 30; ++draw) {
              Sampler sampler({.temperature = temperature,
                               .top_k = k,
                               .top_p = p,
                               .min_p = min_p,
                               .seed = static_cast<uint64_t>(draw)},
                              {});
              const int32_t token = sampler.sample(logits).value();
              ASSERT_TRUE(kept.contains(token))
                  << temperature << " " << k << " " << p << " " << min_p << " " << token;
              if (draw == 0 && kept.size() == 1) {
                ASSERT_EQ(token, order[0]);
              }
            }
          }
        }
      }
    }
  }
}

TEST(Logits, MaskIsNeverViolated) {
  const std::vector<float> logits = random_logits(1000, 5);
  std::vector<uint32_t> allowed(32);
  for (const int t : {3, 64, 999}) allowed[t / 32] |= 1u << t % 32;
  std::set<int32_t> sampled;
  for (const double temperature : {0.0, 1.0, 2.0}) {
    for (const int64_t k : {0, 20}) {
      for (uint64_t seed = 0; seed < 300; ++seed) {
        Sampler sampler({.temperature = temperature, .top_k = k, .seed = seed}, {});
        sampled.insert(sampler.sample(logits, allowed).value());
      }
    }
  }
  EXPECT_THAT(sampled, testing::IsSubsetOf({3, 64, 999}));
  std::vector<float> damaged = logits;
  damaged[10] = std::nanf("");
  EXPECT_EQ(Sampler({}, {}).sample(damaged, allowed), std::nullopt) << "though it is not allowed";
}

TEST(Logits, ChoicesDifferForOneSeed) {
  const std::vector<float> logits(1000, 0.0f);
  std::set<int32_t> sampled;
  for (int choice = 0; choice < 8; ++choice)
    sampled.insert(Sampler({.seed = 1}, {}, choice).sample(logits).value());
  EXPECT_GT(sampled.size(), 6u);
  EXPECT_EQ(Sampler({.seed = 1}, {}, 0).sample(logits), Sampler({.seed = 1}, {}).sample(logits));
}

TEST(Logits, Logprobs) {
  std::vector<float> logits = random_logits(8064, 7);
  logits[7000] = logits[17] = 20;
  const TokenScore scored = compute_logprobs(logits, 5, 20);
  double sum = 0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l));
  EXPECT_NEAR(scored.logprob, logits[5] - std::log(sum), 1e-5);
  ASSERT_EQ(scored.top.size(), 20u);
  EXPECT_EQ(scored.top[0].token, 17);
  EXPECT_EQ(scored.top[1].token, 7000);
  std::vector<float> sorted = logits;
  std::sort(sorted.rbegin(), sorted.rend());
  for (int i = 0; i < 20; ++i) EXPECT_NEAR(scored.top[i].logprob, sorted[i] - std::log(sum), 1e-5);
  EXPECT_EQ(compute_logprobs(std::vector<float>{1, 2}, 0, 5).top.size(), 2u);
}

}  // namespace
}  // namespace mxgpt::engine
