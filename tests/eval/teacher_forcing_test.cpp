#include "eval/teacher_forcing.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "runtime/model.h"
#include "support/nano.h"

namespace mxgpt::eval {
namespace {

using testing::ElementsAre;

std::vector<int32_t> counting(int n) {
  std::vector<int32_t> ids(n);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

TEST(Chunks, ScoreAllButTheirFirstToken) {
  const Documents documents{counting(5), {}, counting(1), counting(4)};
  const auto chunks = split_into_chunks(documents, 2);
  ASSERT_EQ(chunks.size(), 4u);  // single tokens have no context
  EXPECT_THAT(chunks[1].tokens, ElementsAre(2, 3));
  EXPECT_EQ(chunks[2].document, 3);
  EXPECT_EQ(count_scored_tokens(chunks), 4);
}

TEST(Chunks, BeginWithBos) {
  const auto chunks = split_into_chunks({counting(5), counting(1)}, 3, 77);
  ASSERT_EQ(chunks.size(), 4u);
  EXPECT_THAT(chunks[0].tokens, ElementsAre(77, 0, 1));
  EXPECT_THAT(chunks[2].tokens, ElementsAre(77, 4));
  EXPECT_EQ(count_scored_tokens(chunks), 6);
}

TEST(SampleChunks, SpreadsThemOverTheText) {
  const auto all = split_into_chunks({counting(1000)}, 10);
  const auto some = sample_chunks(all, 95);
  EXPECT_EQ(count_scored_tokens(some), 90);
  EXPECT_EQ(some.front().tokens.front(), 0);
  EXPECT_GT(some.back().tokens.front(), 850);
  EXPECT_EQ(count_scored_tokens(sample_chunks(all, 1)), 9);  // at least one chunk
  EXPECT_EQ(sample_chunks(all, 900).size(), 100u);
}

TEST(ClusterChunks, ByDocumentIfThereAreEnough) {
  const auto few = cluster_chunks(split_into_chunks(Documents(29, counting(20)), 10));
  EXPECT_FALSE(few.documents);
  EXPECT_EQ(few.count, 58);
  const auto many = cluster_chunks(split_into_chunks(Documents(30, counting(20)), 10));
  EXPECT_TRUE(many.documents);
  EXPECT_EQ(many.count, 30);
  EXPECT_EQ(many.cluster_of_chunk.back(), 29);
  EXPECT_EQ(many.cluster_of_chunk[1], 0);
}

TEST(Perplexity, DoesNotDependOnTheStepSize) {
  const auto model = runtime::Model::open(kNano);
  const auto chunks = split_into_chunks({counting(40), counting(300)}, 280);
  int64_t reported = 0;
  const Perplexity p = perplexity(*model, {.precision = backend::Precision::exact}, chunks,
                                  [&](int64_t tokens) { reported += tokens; });
  EXPECT_EQ(reported, 340);
  double total = 0;
  for (const Chunk& chunk : chunks) {
    engine::ScoringSession session(
        *model, {.precision = backend::Precision::exact, .context = 280, .all_logits = true});
    session.feed(chunk.tokens, [&](int64_t position, std::span<const float> logits) {
      if (position + 1 == static_cast<int64_t>(chunk.tokens.size())) return;
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
      total += std::log(sum) - logits[chunk.tokens[position + 1]];
    });
  }
  EXPECT_NEAR(p.nll.value, total / 337, 1e-9);
  EXPECT_NEAR(p.value(), std::exp(total / 337), 1e-6 * p.value());
  EXPECT_EQ(p.nll.samples, 337);
}

}  // namespace
}  // namespace mxgpt::eval
