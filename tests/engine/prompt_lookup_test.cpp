#include "engine/prompt_lookup.h"

#include <gmock/gmock.h>

#include "support/fake_engine.h"

namespace mxgpt::engine {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(PromptLookup, FindsLatestOccurrence) {
  const std::vector<int32_t> twice{1, 2, 3, 4, 1, 2, 3, 5, 6, 1, 2, 3};
  EXPECT_THAT(propose_ngram_drafts(twice, 2), ElementsAre(5, 6));
  EXPECT_THAT(propose_ngram_drafts(twice, 4), ElementsAre(5, 6, 1, 2));
  EXPECT_THAT(propose_ngram_drafts(twice, 0), IsEmpty());
  EXPECT_THAT(propose_ngram_drafts(std::vector<int32_t>{7, 7, 7, 7}, 3), ElementsAre(7));
  EXPECT_THAT(propose_ngram_drafts(std::vector<int32_t>{1, 2, 3, 4, 5, 6}, 3), IsEmpty());
  EXPECT_THAT(propose_ngram_drafts(std::vector<int32_t>{1, 2}, 3), IsEmpty());
}

TEST(PromptLookup, WorthwhileWhereARowIsCheap) {
  StepCostModel unknown, memory_bound, compute_bound;
  for (int i = 0; i < 40; ++i) {
    const int64_t rows = 1 + i % 5;
    memory_bound.add(rows, 0.1 + 0.001 * static_cast<double>(rows));
    compute_bound.add(rows, 0.01 * static_cast<double>(rows));
  }
  EXPECT_TRUE(unknown.is_worthwhile(1, 0.5));
  EXPECT_TRUE(memory_bound.is_worthwhile(1, 0.1));
  EXPECT_FALSE(memory_bound.is_worthwhile(1, 0.005));
  EXPECT_FALSE(compute_bound.is_worthwhile(8, 0.9));
  AdaptiveDraftLength policy;
  EXPECT_GT(policy.length(memory_bound, 1), 3);
  EXPECT_EQ(policy.length(compute_bound, 8), 0);
  for (int i = 0; i < 20; ++i) policy.update(3, 0);
  EXPECT_EQ(policy.length(memory_bound, 1), 0) << "they were wrong too often";
  for (int i = 0; i < 200; ++i) policy.recover();
  EXPECT_GT(policy.length(memory_bound, 1), 0) << "another chance";
}

/// Forces a repeated sentence, whatever the logits.
class RepeatingConstraint : public TokenConstraint {
 public:
  bool mask(std::span<uint32_t> allowed) override {
    const int64_t token = next();
    allowed[token / 32] |= 1u << token % 32;
    return true;
  }
  bool accept(int32_t token) override {
    EXPECT_EQ(token, next()) << "accept() got a draft that was not sampled";
    ++said_;
    return true;
  }

 private:
  int64_t next() const { return said_ % 12 + (said_ / 100) % 3; }
  int64_t said_ = 0;
};

TEST(PromptLookup, ChangesStepCountNotOutput) {
  std::vector<int32_t> said[2];
  int64_t steps[2];
  for (const bool drafts : {false, true}) {
    EngineOptions options = kSmall;
    options.speculate = drafts;
    const auto engine = make_engine(options);
    Request request{.prompt = {1, 2, 3}, .max_tokens = 390};
    request.constraints.push_back(std::make_unique<RepeatingConstraint>());
    TokenStream stream = submit(*engine, std::move(request));
    said[drafts] = read_stream(stream).tokens[0];
    EXPECT_EQ(said[drafts].size(), 390u);
    engine->drain(Clock::now() + 20s);
    steps[drafts] = engine->status().steps;
    EXPECT_EQ(engine->status().draft_tokens > 0, drafts);
    EXPECT_EQ(engine->status().output_tokens, 390);
  }
  EXPECT_EQ(said[0], said[1]);
  EXPECT_EQ(steps[0], 390);
  EXPECT_LT(steps[1], 390);
}

}  // namespace
}  // namespace mxgpt::engine
