// The engine on a runner without a model: the life of a request, and all its ends.
#include <gmock/gmock.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <numeric>
#include <thread>

#include "base/error.h"
#include "engine/logprobs.h"
#include "support/fake_engine.h"

namespace mxgpt::engine {
namespace {

int64_t used_pages(const Engine& engine) {
  const EngineStatus status = engine.status();
  return status.pages[0].used + status.pages[1].used;
}

TEST(Requests, OutputMatchesTheDefinition) {
  const auto engine = make_engine();
  for (const int64_t size : {1, 31, 32, 33, 64, 65, 300}) {
    const Request request{
        .prompt = random_tokens(size, 1), .max_tokens = 100, .sampling = {.seed = 5}};
    TokenStream stream =
        submit(*engine, {.prompt = request.prompt, .max_tokens = 100, .sampling = {.seed = 5}});
    const StreamResult heard = read_stream(stream);
    EXPECT_EQ(heard.tokens[0], expected_tokens(request)) << size;
    EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::length);
    EXPECT_EQ(heard.ends[0].output_tokens, 100);
    EXPECT_EQ(heard.ends[0].prompt_tokens, size);
  }
  engine->drain(Clock::now() + 20s);  // counters are published after the step
  const EngineStatus status = engine->status();
  EXPECT_EQ(status.requests, 7);
  EXPECT_EQ(status.output_tokens, 700);
  EXPECT_EQ(status.finished[static_cast<int>(FinishReason::length)], 7);
}

TEST(Requests, CancelInEveryState) {
  Gate gate;
  EngineOptions options = kSmall;
  options.max_sequences = 2;
  const auto engine = make_engine(options, gate.before());
  const auto request = [](int64_t size) {
    return Request{.prompt = random_tokens(size, static_cast<uint64_t>(size)), .max_tokens = 500};
  };
  TokenStream decoding = submit(*engine, request(10));
  EXPECT_EQ(gate.next(), 10);
  TokenStream in_prompt = submit(*engine, request(300));
  gate.pass();
  EXPECT_EQ(gate.next(), 64) << "one row of the first, 63 of the second";
  TokenStream queued = submit(*engine, request(50));
  for (TokenStream* stream : {&decoding, &in_prompt, &queued}) stream->cancel();
  TokenStream other = submit(*engine, request(5));
  gate.pass();
  EXPECT_EQ(gate.next(), 5) << "the step under way ends; the next has nothing of the three";
  gate.pass();
  EXPECT_EQ(gate.next(), 1);
  EXPECT_EQ(engine->status().running, 1);
  EXPECT_EQ(used_pages(*engine), 2);
  for (TokenStream* stream : {&decoding, &in_prompt, &queued}) {
    EXPECT_EQ(read_stream(*stream).ends[0].finish_reason, FinishReason::cancelled);
    EXPECT_TRUE(stream->wait().empty()) << "nothing can come";
  }
  gate.open();
  EXPECT_EQ(read_stream(other).tokens[0].size(), 500u);
}

TEST(Requests, DestroyingAStreamCancels) {
  const auto engine = make_engine();
  for (int i = 0; i < 50; ++i) {
    std::optional<TokenStream> stream(submit(*engine, {.prompt = random_tokens(100, 1)}));
    if (i % 2) stream->wait();
    std::optional<TokenStream> moved(std::move(stream));
    stream.reset();
    moved.reset();
  }
  engine->drain(Clock::now() + 20s);
  // A few may finish before they are cancelled.
  const EngineStatus status = engine->status();
  const auto& ended = status.finished;
  EXPECT_GT(ended[static_cast<int>(FinishReason::cancelled)], 30);
  EXPECT_EQ(std::accumulate(std::begin(ended), std::end(ended), int64_t{0}), 50);
  EXPECT_EQ(used_pages(*engine), 0);
}

TEST(Requests, Deadlines) {
  Gate gate;
  EngineOptions options = kSmall;
  options.max_sequences = 1;
  const auto engine = make_engine(options, gate.before());
  const auto deadline = Clock::now() + 30ms;
  TokenStream running = submit(*engine, {.prompt = {1}, .deadline = deadline});
  gate.next();
  TokenStream queued = submit(*engine, {.prompt = {2}, .deadline = deadline});
  TokenStream patient = submit(*engine, {.prompt = {3}, .max_tokens = 1});
  std::this_thread::sleep_until(deadline + 1ms);
  gate.open();
  const StreamResult late = read_stream(running);
  EXPECT_EQ(late.ends[0].finish_reason, FinishReason::deadline);
  EXPECT_EQ(late.tokens[0].size(), 1u) << "of the step that was under way";
  EXPECT_EQ(read_stream(queued).ends[0].finish_reason, FinishReason::deadline);
  EXPECT_EQ(read_stream(patient).ends[0].finish_reason, FinishReason::length);
}

TEST(Requests, FullQueueRejects) {
  Gate gate;
  EngineOptions options = kSmall;
  options.max_sequences = 1;
  options.max_queue = 3;
  options.max_queued_tokens = 100;
  const auto engine = make_engine(options, gate.before());
  const auto refused = [&](Request request) {
    const auto result = engine->submit(std::move(request));
    return std::holds_alternative<Engine::Rejection>(result) &&
           std::get<Engine::Rejection>(result) == Engine::Rejection::queue_full;
  };
  TokenStream first = submit(*engine, {.prompt = {1}, .max_tokens = 3});
  gate.next();
  gate.pass();
  gate.next();  // the first request is running
  TokenStream second = submit(*engine, {.prompt = {1, 2}, .max_tokens = 3});
  EXPECT_TRUE(refused({.prompt = random_tokens(99, 1)})) << "101 tokens in the queue";
  EXPECT_TRUE(refused({.prompt = {1}, .choices = 3})) << "four in the queue";
  TokenStream third = submit(*engine, {.prompt = {1}, .max_tokens = 1, .choices = 2});
  EXPECT_TRUE(refused({.prompt = {1}}));
  EXPECT_EQ(engine->status().rejected, 3);
  EXPECT_EQ(engine->status().queued, 3);
  EXPECT_EQ(engine->status().queued_tokens, 4);
  gate.open();
  for (TokenStream* stream : {&first, &second})
    EXPECT_EQ(read_stream(*stream).tokens[0].size(), 3u);
  read_stream(third, 2);
  engine->drain(Clock::now() + 20s);
  EXPECT_EQ(engine->status().queued, 0);
  EXPECT_EQ(std::get<Engine::Rejection>(engine->submit({.prompt = {1}})),
            Engine::Rejection::draining);
}

TEST(Requests, DrainAndDestructorCancel) {
  Gate gate;
  auto engine = make_engine(kSmall, gate.before());
  TokenStream stream = submit(*engine, {.prompt = {1}});
  gate.open();
  engine->drain(Clock::now() + 5ms);  // cancelled or finished; both deliver an end
  TokenStream orphan = [&] {
    auto second = make_engine();
    return submit(*second, {.prompt = {1}});
  }();
  EXPECT_TRUE(read_stream(stream).ends[0].last);
  EXPECT_TRUE(read_stream(orphan).ends[0].last);
}

TEST(Requests, SlowReaderEndsOnlyItsRequest) {
  EngineOptions options = kSmall;
  options.max_stream_events = 20;
  const auto engine = make_engine(options);
  TokenStream stalled = submit(*engine, {.prompt = {1}, .max_tokens = 500});
  TokenStream reads = submit(*engine, {.prompt = {1}, .max_tokens = 20});
  engine->drain(Clock::now() + 20s);
  const StreamResult heard = read_stream(stalled);
  EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::slow_reader);
  EXPECT_EQ(heard.tokens[0].size(), 20u);
  EXPECT_EQ(read_stream(reads).ends[0].finish_reason, FinishReason::length);
}

TEST(Requests, CallbackOnEvents) {
  const auto engine = make_engine();
  TokenStream stream = submit(*engine, {.prompt = {1}, .max_tokens = 50});
  std::mutex mutex;
  std::condition_variable called;
  bool ready = false, has_ended = false;
  stream.on_ready([&](bool ended) {
    const std::lock_guard lock(mutex);
    ready = true;
    has_ended = ended;
    called.notify_one();
  });
  int64_t tokens = 0;
  for (bool last = false; !last;) {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(called.wait_for(lock, 20s, [&] { return std::exchange(ready, false); }));
    lock.unlock();
    for (const StreamEvent& event : stream.poll()) {
      tokens += std::holds_alternative<ChoiceToken>(event);
      last = std::holds_alternative<ChoiceEnd>(event);
    }
  }
  EXPECT_EQ(tokens, 50);
  EXPECT_TRUE(has_ended);
}

TEST(Requests, CallbackOnEndWithoutReader) {
  const auto engine = make_engine();
  TokenStream stream = submit(*engine, {.prompt = {1}, .max_tokens = 50});
  std::atomic<int> calls = 0, ends = 0;
  stream.on_ready([&](bool ended) {
    ++calls;
    ends += ended;
  });
  engine->drain(Clock::now() + 20s);
  EXPECT_EQ(ends, 1);
  EXPECT_LE(calls, 2);
}

TEST(Requests, StopTokensAreDelivered) {
  const auto engine = make_engine();
  const Request request{.prompt = {1, 2, 3}, .max_tokens = 50};
  const std::vector<int32_t> all = expected_tokens(request);
  TokenStream stream =
      submit(*engine, {.prompt = {1, 2, 3}, .max_tokens = 50, .stop_tokens = {all[20]}});
  const StreamResult heard = read_stream(stream);
  const auto first = std::find(all.begin(), all.end(), all[20]);
  EXPECT_EQ(heard.tokens[0], std::vector(all.begin(), first + 1));
  EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::stop);
}

TEST(Requests, ChoicesShareTheirPrompt) {
  const auto engine = make_engine();
  const Request request{.prompt = random_tokens(200, 3), .max_tokens = 40, .sampling = {.seed = 9}};
  TokenStream stream =
      submit(*engine,
             {.prompt = request.prompt, .max_tokens = 40, .sampling = {.seed = 9}, .choices = 12});
  const StreamResult heard = read_stream(stream, 12);
  for (int choice = 0; choice < 12; ++choice) {
    EXPECT_EQ(heard.tokens[choice], expected_tokens(request, choice)) << choice;
    EXPECT_EQ(heard.ends[choice].cached_tokens, choice ? 192 : 0);
  }
  EXPECT_NE(heard.tokens[0], heard.tokens[1]);
}

TEST(Requests, CancelOneChoice) {
  const auto engine = make_engine();
  const Request request{.prompt = random_tokens(40, 3), .max_tokens = 300};
  TokenStream stream = submit(*engine, {.prompt = request.prompt, .max_tokens = 300, .choices = 3});
  stream.cancel(1);
  const StreamResult heard = read_stream(stream, 3);
  EXPECT_EQ(heard.ends[1].finish_reason, FinishReason::cancelled);
  EXPECT_EQ(heard.tokens[0], expected_tokens(request, 0));
  EXPECT_EQ(heard.tokens[2], expected_tokens(request, 2));
}

TEST(Requests, LogprobsOfOutputAndPrompt) {
  const auto engine = make_engine();
  const Request request{.prompt = random_tokens(150, 3), .max_tokens = 10};
  TokenStream stream = submit(
      *engine,
      {.prompt = request.prompt, .max_tokens = 10, .top_logprobs = 4, .prompt_logprobs = true});
  const StreamResult heard = read_stream(stream);
  std::vector<int32_t> all = request.prompt;
  all.insert(all.end(), heard.tokens[0].begin(), heard.tokens[0].end());
  EXPECT_EQ(heard.tokens[0], expected_tokens(request));
  ASSERT_EQ(heard.prompt.size(), 149u);
  std::vector<float> logits(kShape.vocabulary);
  for (size_t at = 1; at < all.size(); ++at) {
    FakeRunner::expected_logits(std::span(all).first(at), kShape.window, logits);
    const TokenScore scored = compute_logprobs(logits, all[at], 4);
    const auto same = [&](const auto& event) {
      EXPECT_EQ(event.token, all[at]);
      EXPECT_EQ(event.logprob, scored.logprob);
      ASSERT_EQ(event.top.size(), 4u);
      for (int i = 0; i < 4; ++i) EXPECT_EQ(event.top[i].token, scored.top[i].token);
    };
    at < 150 ? same(heard.prompt[at - 1]) : same(heard.events[at - 150]);
  }
}

TEST(Requests, PromptOnlyRequestIsScoredAndCached) {
  const auto engine = make_engine();
  TokenStream stream =
      submit(*engine, {.prompt = random_tokens(1024, 8), .max_tokens = 0, .prompt_logprobs = true});
  const StreamResult heard = read_stream(stream);
  EXPECT_EQ(heard.prompt.size(), 1023u);
  EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::length);
  EXPECT_TRUE(heard.tokens[0].empty());
  TokenStream again = submit(*engine, {.prompt = random_tokens(1024, 8), .max_tokens = 0});
  EXPECT_EQ(read_stream(again).ends[0].cached_tokens, 992);
}

TEST(Requests, InvalidFieldsAreNamed) {
  const auto engine = make_engine();
  const auto fault = [&](Request request) -> std::string {
    try {
      (void)engine->submit(std::move(request));
    } catch (const Error& error) {
      return std::string(error.what()).substr(0, std::string(error.what()).find(':'));
    }
    return "none";
  };
  EXPECT_EQ(fault({}), "prompt");
  EXPECT_EQ(fault({.prompt = {97}}), "prompt");
  EXPECT_EQ(fault({.prompt = {-1}}), "prompt");
  EXPECT_EQ(fault({.prompt = random_tokens(1024, 1)}), "prompt");
  EXPECT_EQ(fault({.prompt = random_tokens(1025, 1), .max_tokens = 0}), "prompt");
  EXPECT_EQ(fault({.prompt = {1}, .max_tokens = -1}), "max_tokens");
  EXPECT_EQ(fault({.prompt = {1}, .max_tokens = INT64_MAX}), "none");
  EXPECT_EQ(fault({.prompt = {1}, .sampling = {.temperature = 3}}), "temperature");
  EXPECT_EQ(fault({.prompt = {1}, .choices = 0}), "choices");
  EXPECT_EQ(fault({.prompt = {1}, .choices = 1000000000}), "choices");
  EXPECT_EQ(fault({.prompt = {1}, .stop_tokens = {1000}}), "stop_tokens");
  EXPECT_EQ(fault({.prompt = {1}, .top_logprobs = 21}), "top_logprobs");
  EXPECT_EQ(fault({.prompt = {1}, .priority = 101}), "priority");
  for (const EngineOptions& bad :
       std::vector<EngineOptions>{{.context = 5000},
                                  {.max_sequences = 0},
                                  {.max_sequences = 64, .max_batched_tokens = 64},
                                  {.kv_tokens = -1},
                                  {.max_queue = 0}}) {
    EXPECT_THROW(Engine::runner_options(kShape, bad), Error);
  }
}

/// Clients on several threads submit, read and cancel at random. All output matches the definition,
/// and no page stays referenced.
TEST(Requests, RandomTraffic) {
  EngineOptions options{.context = 300,
                        .max_sequences = 6,
                        .max_batched_tokens = 40,
                        .kv_tokens = 1,  // pages of one sequence, so preemption is common
                        .max_queue = 20,
                        .max_stream_events = 4000};
  const auto engine = make_engine(options);
  constexpr int kClients = 4, kRequests = 500;
  std::vector<std::vector<int32_t>> shared(8);
  for (size_t i = 0; i < shared.size(); ++i) shared[i] = random_tokens(200, 100 + i);
  std::atomic<int64_t> answered = 0, refused = 0, ended = 0;
  std::vector<std::thread> clients;
  for (int client = 0; client < kClients; ++client) {
    clients.emplace_back([&, client] {
      uint64_t random = mix_hash(static_cast<uint64_t>(client));
      const auto below = [&](uint64_t n) {
        return static_cast<int64_t>((random = mix_hash(random)) % n);
      };
      for (int i = 0; i < kRequests; ++i) {
        const auto& from = shared[below(shared.size())];
        Request request{.prompt = {from.begin(), from.begin() + 1 + below(from.size())},
                        .max_tokens = below(60),
                        .sampling = {.temperature = below(3) * 0.7, .seed = random},
                        .choices = static_cast<int>(below(8) ? 1 : 1 + below(4)),
                        .priority = static_cast<int>(below(3))};
        if (below(10) == 0)
          request.deadline = Clock::now() + std::chrono::microseconds(below(3000));
        if (below(20) == 0) request.prompt_logprobs = true;
        const int choices = request.choices;
        const bool timed = request.deadline.has_value();
        const Request copy{.prompt = request.prompt,
                           .max_tokens = request.max_tokens,
                           .sampling = request.sampling};
        auto result = engine->submit(std::move(request));
        if (std::holds_alternative<Engine::Rejection>(result)) {
          ++refused;
          std::this_thread::sleep_for(1ms);
          continue;
        }
        auto& stream = std::get<TokenStream>(result);
        switch (below(5)) {
          case 0:
            continue;  // drops the stream at once
          case 1:
            stream.wait();
            continue;  // drops the stream after the first events
          case 2:
            stream.cancel(static_cast<int>(below(choices)));
            break;
          default:
            break;
        }
        const StreamResult heard = read_stream(stream, choices);
        for (int choice = 0; choice < choices; ++choice) {
          const std::vector<int32_t> whole = expected_tokens(copy, choice);
          const auto& got = heard.tokens[choice];
          const bool cut = heard.ends[choice].finish_reason != FinishReason::length;
          EXPECT_TRUE(!cut || timed || heard.ends[choice].finish_reason == FinishReason::cancelled);
          EXPECT_TRUE(cut ? got.size() <= whole.size() : got.size() == whole.size());
          EXPECT_TRUE(std::equal(got.begin(), got.end(), whole.begin()));
          ++ended;
        }
        ++answered;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  engine->drain(Clock::now() + 20s);
  const EngineStatus status = engine->status();
  EXPECT_EQ(status.requests + refused, kClients * kRequests);
  EXPECT_GT(answered, kRequests);
  EXPECT_GT(status.preemptions, 0);
  EXPECT_GT(status.cached_tokens, 0);
  EXPECT_EQ(status.queued, 0);
  EXPECT_EQ(status.queued_tokens, 0);
  EXPECT_EQ(status.running, 0);
  EXPECT_EQ(used_pages(*engine), 0);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/// Resident set size.
int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

TEST(Requests, MemoryDoesNotGrowWithRequests) {
  const auto engine = make_engine();
  const auto serve = [&](int from, int to) {
    std::vector<TokenStream> open;
    for (int i = from; i < to; ++i) {
      open.push_back(submit(*engine, {.prompt = random_tokens(1 + i % 50, static_cast<uint64_t>(i)),
                                      .max_tokens = 2,
                                      .choices = 1 + i % 2}));
      if (open.size() < 100) continue;
      for (TokenStream& stream : open) read_stream(stream, 2);
      open.clear();
    }
  };
  serve(0, 2000);
  const int64_t before = resident_bytes();
  serve(2000, 20000);
  EXPECT_LE(static_cast<double>(resident_bytes()), 1.02 * static_cast<double>(before));
}
#endif

}  // namespace
}  // namespace mxgpt::engine
