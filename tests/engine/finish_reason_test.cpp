// Errors as finish reasons: constraints, non-finite logits, repetition and failed steps.
#include <gmock/gmock.h>

#include <cmath>
#include <stdexcept>

#include "support/fake_engine.h"

namespace mxgpt::engine {
namespace {

/// Allows only the tokens of a list, in order. `end` selects the behavior after the last.
class ScriptedConstraint : public TokenConstraint {
 public:
  enum class End { done, nothing, exception };
  ScriptedConstraint(std::vector<int32_t> tokens, End end)
      : tokens_(std::move(tokens)), end_(end) {}

  bool mask(std::span<uint32_t> allowed) override {
    if (at_ == tokens_.size()) {
      if (end_ == End::exception) throw std::runtime_error("broken");
      return true;
    }
    if (tokens_[at_] < 0) return false;  // any token
    allowed[tokens_[at_] / 32] |= 1u << tokens_[at_] % 32;
    return true;
  }
  bool accept(int32_t token) override {
    EXPECT_TRUE(tokens_[at_] < 0 || tokens_[at_] == token);
    ++at_;
    return end_ != End::done || at_ < tokens_.size();
  }

 private:
  std::vector<int32_t> tokens_;
  End end_;
  size_t at_ = 0;
};

TEST(FinishReasons, ConstraintsAffectOnlyTheirOwnChoice) {
  const auto engine = make_engine();
  const std::vector<int32_t> script{5, -1, 96, 0, -1};
  Request request{.prompt = {1, 2}, .max_tokens = 30, .choices = 3};
  for (const auto end : {ScriptedConstraint::End::done, ScriptedConstraint::End::nothing,
                         ScriptedConstraint::End::exception})
    request.constraints.push_back(std::make_unique<ScriptedConstraint>(script, end));
  TokenStream stream = submit(*engine, std::move(request));
  const StreamResult heard = read_stream(stream, 3);
  for (const std::vector<int32_t>& tokens : heard.tokens) {
    ASSERT_EQ(tokens.size(), 5u);
    for (const int i : {0, 2, 3}) EXPECT_EQ(tokens[i], script[i]);
  }
  EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::stop);
  EXPECT_EQ(heard.ends[1].finish_reason, FinishReason::constraint);
  EXPECT_EQ(heard.ends[2].finish_reason, FinishReason::constraint);
  EXPECT_EQ(heard.ends[2].error, "broken");
}

TEST(FinishReasons, ShortCycleIsDegenerate) {
  for (const std::vector<int32_t>& cycle : std::vector<std::vector<int32_t>>{
           {5}, {1, 2}, {1, 2, 3, 4, 5, 6, 7, 8}, {1, 2, 3, 4, 5, 6, 7, 8, 9}}) {
    std::vector<int32_t> script;
    for (int i = 0; i < 400; ++i) script.push_back(cycle[i % cycle.size()]);
    const auto engine = make_engine();
    Request request{.prompt = {1}, .max_tokens = 390};
    request.constraints.push_back(
        std::make_unique<ScriptedConstraint>(script, ScriptedConstraint::End::done));
    TokenStream stream = submit(*engine, std::move(request));
    const StreamResult heard = read_stream(stream);
    if (cycle.size() > 8) {
      EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::length);
    } else {
      EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::degenerate);
      EXPECT_EQ(heard.tokens[0].size(), 256 + cycle.size());
    }
  }
}

/// Sets a logit to NaN in some rows.
class NanRunner final : public runtime::Runner {
 public:
  explicit NanRunner(const runtime::RunnerOptions& options)
      : inner_(options, kShape.vocabulary, kShape.window) {}
  std::span<const float> step(const backend::Batch& batch) override {
    const auto logits = inner_.step(batch);
    damaged_.assign(logits.begin(), logits.end());
    for (size_t i = 0; i < batch.logit_rows.size(); ++i) {
      // Rows whose token is 13.
      if (batch.tokens[batch.logit_rows[i]] == 13) damaged_[i * kShape.vocabulary + 50] = NAN;
    }
    return damaged_;
  }

 private:
  FakeRunner inner_;
  std::vector<float> damaged_;
};

TEST(FinishReasons, NonFiniteLogitsEndOnlyTheirRequest) {
  Engine engine(std::make_unique<NanRunner>(Engine::runner_options(kShape, kSmall)), kShape,
                kSmall);
  std::vector<int32_t> bad = random_tokens(100, 1);
  bad.push_back(13);
  TokenStream damaged = submit(engine, {.prompt = bad, .max_tokens = 5});
  TokenStream healthy = submit(engine, {.prompt = random_tokens(100, 2),
                                        .max_tokens = 50,
                                        .sampling = {.logit_bias = {{13, -100}}}});
  const StreamResult heard = read_stream(damaged);
  EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::degenerate);
  EXPECT_TRUE(heard.tokens[0].empty());
  EXPECT_EQ(read_stream(healthy).tokens[0].size(), 50u);
  TokenStream again = submit(engine, {.prompt = bad, .max_tokens = 5});
  EXPECT_EQ(read_stream(again).ends[0].cached_tokens, 0) << "what it computed is not trusted";
}

TEST(FinishReasons, FailedStepEndsItsRequestsOnly) {
  int steps = 0;
  const auto engine = make_engine(kSmall, [&](const backend::Batch&) {
    if (++steps == 3) throw std::runtime_error("device lost");
  });
  TokenStream stream = submit(*engine, {.prompt = random_tokens(10, 1), .max_tokens = 50});
  const StreamResult heard = read_stream(stream);
  EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::step_failed);
  EXPECT_EQ(heard.ends[0].error, "device lost");
  EXPECT_EQ(heard.tokens[0].size(), 2u);
  TokenStream next = submit(*engine, {.prompt = random_tokens(10, 1), .max_tokens = 50});
  EXPECT_EQ(read_stream(next).tokens[0].size(), 50u);
  EXPECT_EQ(engine->status().failed_steps, 1);
  EXPECT_EQ(engine->status().last_failure, "device lost");
}

}  // namespace
}  // namespace mxgpt::engine
