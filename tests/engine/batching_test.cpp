// The engine on the shipped model: results are bit-identical alone and in a batch.
#include <gmock/gmock.h>

#include <fstream>
#include <random>

#include "base/json.h"
#include "engine/engine.h"
#include "engine/scoring_session.h"
#include "support/nano.h"

namespace mxgpt::engine {
namespace {

std::vector<std::vector<int32_t>> reference_prompts() {
  std::ifstream file(nano().path() / "reference-greedy.jsonl");
  std::vector<std::vector<int32_t>> prompts;
  for (std::string line; std::getline(file, line);) {
    const json::value document = json::parse(line, "reference-greedy.jsonl");
    std::vector<int32_t>& prompt = prompts.emplace_back();
    for (const auto& id : json::Node(document, "reference-greedy.jsonl:")["prompt_ids"].array())
      prompt.push_back(id.to_number<int32_t>());
  }
  return prompts;
}

struct StreamResult {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;  ///< of the token and the top three
  ChoiceEnd end;

  bool operator==(const StreamResult& other) const {
    return tokens == other.tokens && logprobs == other.logprobs;
  }
};

StreamResult read_stream(TokenStream& stream) {
  StreamResult heard;
  for (bool last = false; !last;) {
    for (const StreamEvent& event : stream.wait()) {
      if (const auto* token = std::get_if<ChoiceToken>(&event)) {
        heard.tokens.push_back(token->token);
        heard.logprobs.push_back(token->logprob);
        for (const TokenLogprob& t : token->top) heard.logprobs.push_back(t.logprob);
      } else if (const auto* end = std::get_if<ChoiceEnd>(&event)) {
        heard.end = *end;
        last = end->last;
      }
    }
  }
  return heard;
}

Request request(const std::vector<int32_t>& prompt, int64_t i) {
  return {.prompt = prompt,
          .max_tokens = i < 8 ? 72 : 12,
          .sampling = {.temperature = i % 2 ? 0.9 : 0,
                       .top_p = i % 3 ? 1 : 0.9,
                       .seed = static_cast<uint64_t>(i)},
          .top_logprobs = 3};
}

TokenStream submit(Engine& engine, Request request_in) {
  auto result = engine.submit(std::move(request_in));
  return std::get<TokenStream>(std::move(result));
}

class Batching : public testing::TestWithParam<backend::Precision> {};
INSTANTIATE_TEST_SUITE_P(Each, Batching,
                         testing::Values(backend::Precision::exact, backend::Precision::mixed),
                         [](const auto& info) {
                           return info.param == backend::Precision::exact ? "exact" : "standard";
                         });

TEST_P(Batching, SameBitsAloneAndBatched) {
  std::vector<std::vector<int32_t>> prompts = reference_prompts();
  std::mt19937 random(1);
  prompts.resize(10);
  for (int i = 0; i < 6; ++i) {  // longer prompts, some with a common prefix
    std::vector<int32_t> prompt = i < 4 ? prompts[0] : prompts[i];
    for (int more = 50 * i; more-- > 0;) prompt.push_back(static_cast<int32_t>(random() % 8000));
    prompts.push_back(prompt);
  }
  ASSERT_EQ(prompts.size(), 16u);
  std::vector<StreamResult> alone;
  Engine single(nano(),
                {.context = 1024, .max_sequences = 1, .speculate = false, .precision = GetParam()});
  for (size_t i = 0; i < prompts.size(); ++i) {
    Request asked = request(prompts[i], static_cast<int64_t>(i));
    asked.cache_salt = std::to_string(i);  // no prefix is shared
    TokenStream stream = submit(single, std::move(asked));
    alone.push_back(read_stream(stream));
    ASSERT_EQ(alone.back().end.cached_tokens, 0);
    ASSERT_EQ(alone.back().end.finish_reason, FinishReason::length);
  }

  const EngineOptions batch_options[] = {
      {.context = 1024, .max_sequences = 32, .max_batched_tokens = 200, .precision = GetParam()},
      {.context = 1024, .max_sequences = 7, .max_batched_tokens = 33, .precision = GetParam()},
      // Few more pages than one sequence needs, which causes preemption and recomputation.
      {.context = 640,
       .max_sequences = 16,
       .max_batched_tokens = 48,
       .kv_tokens = 1,
       .precision = GetParam()}};
  int64_t preemptions = 0, cached = 0;
  for (const EngineOptions& options : batch_options) {
    Engine engine(nano(), options);
    // The second round finds prompts in the prefix cache.
    for (int round = 0; round < (options.max_sequences == 7 ? 1 : 2); ++round) {
      std::vector<TokenStream> streams, cancelled_streams;
      for (size_t i = 0; i < prompts.size(); ++i) {
        streams.push_back(submit(engine, request(prompts[i], static_cast<int64_t>(i))));
        if (i % 5 == 0) {
          cancelled_streams.push_back(submit(engine, {.prompt = prompts[i], .max_tokens = 100}));
          if (i % 2) cancelled_streams.back().wait();
        }
      }
      cancelled_streams.clear();  // cancelled while the others run
      for (size_t i = 0; i < prompts.size(); ++i) {
        const StreamResult heard = read_stream(streams[i]);
        EXPECT_TRUE(heard == alone[i]) << i << " of round " << round;
      }
    }
    preemptions += engine.status().preemptions;
    cached += engine.status().cached_tokens;
  }
  EXPECT_GT(preemptions, 0);
  EXPECT_GT(cached, 500);
}

TEST(EngineAndSession, SessionMatchesEngine) {
  const auto prompts = reference_prompts();
  ScoringSession session(nano(), {.context = 1024});
  Engine engine(nano(), {.context = 1024});
  for (size_t i = 0; i < 6; ++i) {
    const Request asked = request(prompts[i], static_cast<int64_t>(i));
    session.reset();
    Sampler sampler(asked.sampling, asked.prompt);
    std::vector<int32_t> tokens;
    std::span<const float> logits = session.feed(asked.prompt);
    while (true) {
      tokens.push_back(sampler.sample(logits).value());
      if (std::ssize(tokens) == *asked.max_tokens) break;
      logits = session.feed({&tokens.back(), 1});
    }
    TokenStream stream = submit(engine, request(prompts[i], static_cast<int64_t>(i)));
    EXPECT_EQ(read_stream(stream).tokens, tokens);
  }
}

TEST(EngineAndSession, SecondTurnReusesThePrompt) {
  Engine engine(nano(), {.context = 4096});
  std::mt19937 random(2);
  std::vector<int32_t> prompt;
  for (int i = 0; i < 900; ++i) prompt.push_back(static_cast<int32_t>(random() % 8000));
  TokenStream first = submit(engine, {.prompt = prompt, .max_tokens = 40});
  const std::vector<int32_t> reply = read_stream(first).tokens;
  std::vector<int32_t> second = prompt;
  second.insert(second.end(), reply.begin(), reply.end());
  for (int i = 0; i < 15; ++i) second.push_back(static_cast<int32_t>(random() % 8000));
  TokenStream next = submit(engine, {.prompt = second, .max_tokens = 1});
  EXPECT_GE(read_stream(next).end.cached_tokens, 0.95 * static_cast<double>(second.size()));
}

}  // namespace
}  // namespace mxgpt::engine
