// The engine on a runner without a model: every way that a request can go and end.
#include <gmock/gmock.h>

#include <thread>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/fake_runner.h"
#include "engine/logprobs.h"

namespace mxgpt {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr EngineShape kShape{
    .vocabulary = 97, .context = 4096, .has_group = {true, true}, .window = 70};
constexpr EngineOptions kSmall{
    .context = 1024, .max_sequences = 8, .max_rows = 64, .kv_tokens = 2048};

std::unique_ptr<Engine> make_engine(const EngineOptions& options = kSmall,
                                    std::function<void(const Batch&)> before = {}) {
  auto runner = std::make_unique<FakeRunner>(Engine::runner_options(kShape, options),
                                             kShape.vocabulary, kShape.window);
  runner->before = std::move(before);
  return std::make_unique<Engine>(std::move(runner), kShape, options);
}

std::vector<int32_t> text(int64_t count, uint64_t seed) {
  std::vector<int32_t> result(count);
  for (int32_t& token : result) token = static_cast<int32_t>((seed = mix_hash(seed)) % 97);
  return result;
}

TokenStream submit(Engine& engine, Request request) {
  auto submitted = engine.submit(std::move(request));
  EXPECT_TRUE(std::holds_alternative<TokenStream>(submitted));
  return std::get<TokenStream>(std::move(submitted));
}

struct Heard {
  std::vector<std::vector<int32_t>> tokens;  ///< by choice
  std::vector<ChoiceEnd> ends;               ///< by choice
  std::vector<ChoiceToken> events;
  std::vector<PromptToken> prompt;
};

Heard hear(TokenStream& stream, int choices = 1) {
  Heard heard;
  heard.tokens.resize(choices);
  heard.ends.resize(choices);
  for (bool last = false; !last;) {
    for (const StreamEvent& event : stream.wait(Clock::now() + 20s)) {
      EXPECT_FALSE(last) << "an event after the last";
      if (const auto* token = std::get_if<ChoiceToken>(&event)) {
        heard.tokens[token->choice].push_back(token->token);
        heard.events.push_back(*token);
      } else if (const auto* scored = std::get_if<PromptToken>(&event)) {
        heard.prompt.push_back(*scored);
      } else {
        const auto& end = std::get<ChoiceEnd>(event);
        heard.ends[end.choice] = end;
        last = end.last;
      }
    }
  }
  return heard;
}

/// The answer by definition: every token from the whole text before it.
std::vector<int32_t> expected(const Request& request, int choice = 0) {
  std::vector<int32_t> all = request.prompt;
  Sampler sampler(request.sampling, request.prompt, choice);
  std::vector<float> logits(kShape.vocabulary);
  for (int64_t i = 0; i < *request.max_tokens; ++i) {
    FakeRunner::expected_logits(all, kShape.window, logits);
    all.push_back(*sampler.sample(logits));
  }
  return {all.begin() + static_cast<int64_t>(request.prompt.size()), all.end()};
}

TEST(Requests, AnAnswerIsThatOfTheDefinition) {
  const auto engine = make_engine();
  for (const int64_t size : {1, 31, 32, 33, 64, 65, 300}) {
    const Request request{.prompt = text(size, 1), .max_tokens = 100, .sampling = {.seed = 5}};
    TokenStream stream =
        submit(*engine, {.prompt = request.prompt, .max_tokens = 100, .sampling = {.seed = 5}});
    const Heard heard = hear(stream);
    EXPECT_EQ(heard.tokens[0], expected(request)) << size;
    EXPECT_EQ(heard.ends[0].finish, Finish::length);
    EXPECT_EQ(heard.ends[0].answer_tokens, 100);
  }
}

}  // namespace
}  // namespace mxgpt
