// Constraints whose masks are computed outside the engine step.
#include <gmock/gmock.h>

#include <atomic>
#include <memory>

#include "support/fake_engine.h"

namespace mxgpt::engine {
namespace {

/// Allows every token, but not before `ready` is set; `slow_every` tokens it has to wait again.
class SlowConstraint : public TokenConstraint {
 public:
  explicit SlowConstraint(std::shared_ptr<std::atomic<bool>> ready, int slow_every = 0)
      : ready_(std::move(ready)), slow_every_(slow_every) {}

  bool prepare() override {
    if (!*ready_ && !asked_) {
      asked_ = true;
      return false;
    }
    if (!*ready_) return false;
    if (slow_every_ && tokens_ % slow_every_ == 0 && !delayed_) {
      delayed_ = true;
      return false;
    }
    return true;
  }
  bool is_pending() const override { return asked_ && !*ready_; }
  bool mask(std::span<uint32_t> allowed) override {
    EXPECT_TRUE(*ready_) << "sampled without a mask";
    std::fill(allowed.begin(), allowed.end(), ~0u);
    return true;
  }
  bool accept(int32_t) override {
    ++tokens_;
    delayed_ = false;
    return true;
  }

 private:
  std::shared_ptr<std::atomic<bool>> ready_;
  const int slow_every_;
  bool asked_ = false, delayed_ = false;
  int tokens_ = 0;
};

Request constrained(std::vector<int32_t> prompt, std::unique_ptr<TokenConstraint> constraint) {
  Request request{.prompt = std::move(prompt), .max_tokens = 100, .sampling = {.seed = 5}};
  request.constraints.push_back(std::move(constraint));
  return request;
}

TEST(Constraints, APendingMaskDelaysNobodyElse) {
  const auto engine = make_engine();
  const auto ready = std::make_shared<std::atomic<bool>>(false);
  for (const int64_t size : {1, 32, 33, 300}) {
    *ready = false;
    const std::vector<int32_t> prompt = random_tokens(size, 1);
    TokenStream stuck =
        submit(*engine, constrained(prompt, std::make_unique<SlowConstraint>(ready)));
    for (uint64_t seed = 2; seed < 5; ++seed) {
      const Request witness{
          .prompt = random_tokens(50, seed), .max_tokens = 100, .sampling = {.seed = 7}};
      TokenStream stream =
          submit(*engine, {.prompt = witness.prompt, .max_tokens = 100, .sampling = {.seed = 7}});
      EXPECT_EQ(read_stream(stream).tokens[0], expected_tokens(witness));
    }
    EXPECT_TRUE(stuck.poll().empty());
    *ready = true;
    EXPECT_EQ(read_stream(stuck).tokens[0],
              expected_tokens({.prompt = prompt, .max_tokens = 100, .sampling = {.seed = 5}}))
        << size;
  }
}

TEST(Constraints, DelayedMasksDoNotChangeTheOutput) {
  for (const bool speculate : {false, true}) {
    EngineOptions options = kSmall;
    options.speculate = speculate;
    const auto engine = make_engine(options);
    const auto ready = std::make_shared<std::atomic<bool>>(true);
    for (const int slow_every : {1, 2, 7}) {
      for (const int64_t size : {1, 32, 40, 200}) {
        const std::vector<int32_t> prompt = random_tokens(size, 3);
        TokenStream stream = submit(
            *engine, constrained(prompt, std::make_unique<SlowConstraint>(ready, slow_every)));
        EXPECT_EQ(read_stream(stream).tokens[0],
                  expected_tokens({.prompt = prompt, .max_tokens = 100, .sampling = {.seed = 5}}))
            << slow_every << " " << size << " " << speculate;
      }
    }
  }
}

TEST(Constraints, APendingChoiceCanBeCancelledAndTimesOut) {
  const auto engine = make_engine();
  const auto never = std::make_shared<std::atomic<bool>>(false);
  TokenStream cancelled =
      submit(*engine, constrained(random_tokens(40, 1), std::make_unique<SlowConstraint>(never)));
  Request late = constrained(random_tokens(40, 2), std::make_unique<SlowConstraint>(never));
  late.deadline = Clock::now() + 50ms;
  TokenStream timed_out = submit(*engine, std::move(late));
  EXPECT_EQ(read_stream(timed_out).ends[0].finish_reason, FinishReason::deadline);
  EXPECT_TRUE(cancelled.poll().empty());
  cancelled.cancel();
  EXPECT_EQ(read_stream(cancelled).ends[0].finish_reason, FinishReason::cancelled);
}

TEST(Constraints, PendingSequencesArePreemptedAndResume) {
  EngineOptions options = kSmall;
  options.kv_tokens = 1024;  // two of the sequences below fit
  const auto engine = make_engine(options);
  const auto ready = std::make_shared<std::atomic<bool>>(false);
  const std::vector<int32_t> prompt = random_tokens(300, 9);
  TokenStream old = submit(*engine, {.prompt = random_tokens(300, 8), .max_tokens = 600});
  TokenStream stuck = submit(*engine, constrained(prompt, std::make_unique<SlowConstraint>(ready)));
  EXPECT_EQ(read_stream(old).ends[0].finish_reason, FinishReason::length);
  *ready = true;
  EXPECT_EQ(read_stream(stuck).tokens[0],
            expected_tokens({.prompt = prompt, .max_tokens = 100, .sampling = {.seed = 5}}));
}

class TimeoutConstraint : public TokenConstraint {
 public:
  bool mask(std::span<uint32_t>) override { throw ConstraintTimeout("too ambiguous"); }
  bool accept(int32_t) override { return true; }
};

TEST(Constraints, ATimeoutHasItsOwnFinishReason) {
  const auto engine = make_engine();
  TokenStream stream =
      submit(*engine, constrained(random_tokens(40, 1), std::make_unique<TimeoutConstraint>()));
  const StreamResult heard = read_stream(stream);
  EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::grammar_timeout);
  EXPECT_EQ(name(heard.ends[0].finish_reason), "grammar_timeout");
  EXPECT_TRUE(is_error(heard.ends[0].finish_reason));
  EXPECT_EQ(heard.ends[0].error, "too ambiguous");
}

}  // namespace
}  // namespace mxgpt::engine
