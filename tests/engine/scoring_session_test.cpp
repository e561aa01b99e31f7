// Scoring sessions on the shipped model: any chunking gives the same bits. Greedy output equals the
// reference.
#include "engine/scoring_session.h"

#include <gmock/gmock.h>

#include <cstring>
#include <filesystem>
#include <random>

#include "base/error.h"
#include "support/agreement.h"
#include "support/nano.h"

namespace mxgpt::engine {
namespace {

std::vector<int32_t> tokens(int64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<int32_t> result(count);
  for (int32_t& t : result) t = static_cast<int32_t>(generator() % 8000);
  return result;
}

class Precisions : public testing::TestWithParam<backend::Precision> {};
INSTANTIATE_TEST_SUITE_P(Both, Precisions,
                         testing::Values(backend::Precision::exact, backend::Precision::mixed),
                         [](const auto& info) {
                           return info.param == backend::Precision::exact ? "exact" : "standard";
                         });

TEST_P(Precisions, AnyChunkingGivesTheSameBits) {
  // 300 tokens exceed the window of 128 twice and cross nine page boundaries.
  const auto ids = tokens(300, 1);
  std::vector<std::vector<float>> whole;
  ScoringSession all(
      nano(),
      {.precision = GetParam(), .context = 512, .max_batched_tokens = 300, .all_logits = true});
  all.feed(ids, [&](int64_t, std::span<const float> l) { whole.emplace_back(l.begin(), l.end()); });
  ASSERT_EQ(whole.size(), ids.size());

  const auto same = [&](int64_t position, std::span<const float> l) {
    return std::memcmp(l.data(), whole[position].data(), l.size_bytes()) == 0;
  };
  ScoringSession steps(nano(), {.precision = GetParam(), .context = 512, .max_batched_tokens = 37});
  ScoringSession single(nano(), {.precision = GetParam(), .context = 300, .max_batched_tokens = 8});
  EXPECT_TRUE(same(299, steps.feed(ids)));
  for (int64_t i = 0; i < 300; ++i)
    EXPECT_TRUE(same(i, single.feed(std::span(ids).subspan(i, 1)))) << i;
}

TEST_P(Precisions, CachedPrefixGivesTheSameBits) {
  const auto first = tokens(280, 2);
  ScoringSession session(nano(),
                         {.precision = GetParam(), .context = 1024, .max_batched_tokens = 64});
  session.feed(first);
  for (const int64_t shared : {280, 279, 270, 256, 200, 100, 5, 0}) {
    auto second = std::vector<int32_t>(first.begin(), first.begin() + shared);
    const auto tail = tokens(40, 100 + static_cast<uint32_t>(shared));
    second.insert(second.end(), tail.begin(), tail.end());
    const int64_t reused = session.rewind_to_common_prefix(second);
    // After a far rewind the window pages are missing; a near rewind reuses the whole prefix.
    EXPECT_TRUE(reused == shared || reused == 0) << shared;
    if (shared >= 270) {
      EXPECT_EQ(reused, shared);
    }
    const auto got = session.feed(std::span(second).subspan(reused));
    ScoringSession fresh(nano(),
                         {.precision = GetParam(), .context = 1024, .max_batched_tokens = 64});
    const auto expected = fresh.feed(second);
    EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size_bytes()), 0) << shared;
    session.reset();
    session.feed(first);
  }
}

TEST(Session, BeyondTheOriginalContextOfYarn) {
  // YaRN matters beyond 4,096 tokens.
  const auto ids = tokens(4130, 3);
  ScoringSession a(
      nano(), {.precision = backend::Precision::mixed, .context = 4300, .max_batched_tokens = 256});
  ScoringSession b(
      nano(), {.precision = backend::Precision::mixed, .context = 4300, .max_batched_tokens = 100});
  const auto la = a.feed(ids), lb = b.feed(ids);
  EXPECT_EQ(std::memcmp(la.data(), lb.data(), la.size_bytes()), 0);
}

TEST(Session, RejectsWhatDoesNotFit) {
  ScoringSession session(nano(), {.context = 16});
  EXPECT_THROW(session.feed(tokens(17, 4)), Error);
  session.feed(tokens(16, 4));
  EXPECT_THROW(session.feed(tokens(1, 4)), Error);
  session.reset();
  const int32_t outside[] = {8064, -1};
  EXPECT_THROW(session.feed({outside, 1}), Error);
  EXPECT_THROW(session.feed({outside + 1, 1}), Error);
  EXPECT_THROW(ScoringSession(nano(), {.context = 1 << 20}), Error);
}

TEST(Session, ContinuesAfterCancellation) {
  const auto ids = tokens(100, 5);
  ScoringSession session(nano(), {.context = 512, .max_batched_tokens = 32});
  int asked = 0;
  EXPECT_TRUE(session.feed(ids, {}, [&] { return ++asked == 3; }).empty());
  EXPECT_EQ(session.size(), 64);
  EXPECT_EQ(session.rewind_to_common_prefix(ids), 64);
  const auto got = session.feed(std::span(ids).subspan(64));
  ScoringSession fresh(nano(), {.context = 512, .max_batched_tokens = 32});
  const auto expected = fresh.feed(ids);
  EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size_bytes()), 0);
}

TEST(Reference, GreedyTokensMatchTheReference) {
  Engine engine(nano(),
                {.context = 4096, .max_sequences = 1, .precision = backend::Precision::exact});
  EXPECT_EQ(equal_greedy_answers(engine, nano().path()), 24);
}

}  // namespace
}  // namespace mxgpt::engine
