// An engine on a runner without a model, and what tests say to it.
#pragma once

#include <gmock/gmock.h>

#include <condition_variable>
#include <mutex>
#include <optional>

#include "engine/engine.h"
#include "engine/fake_runner.h"

namespace mxgpt {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

inline constexpr EngineShape kShape{
    .vocabulary = 97, .context = 4096, .has_group = {true, true}, .window = 70};
inline constexpr EngineOptions kSmall{
    .context = 1024, .max_sequences = 8, .max_rows = 64, .kv_tokens = 2048};

inline std::unique_ptr<Engine> make_engine(const EngineOptions& options = kSmall,
                                           std::function<void(const Batch&)> before = {}) {
  auto runner = std::make_unique<FakeRunner>(Engine::runner_options(kShape, options),
                                             kShape.vocabulary, kShape.window);
  runner->before = std::move(before);
  return std::make_unique<Engine>(std::move(runner), kShape, options);
}

inline std::vector<int32_t> text(int64_t count, uint64_t seed) {
  std::vector<int32_t> result(count);
  for (int32_t& token : result) token = static_cast<int32_t>((seed = mix_hash(seed)) % 97);
  return result;
}

inline TokenStream submit(Engine& engine, Request request) {
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

inline Heard hear(TokenStream& stream, int choices = 1) {
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
inline std::vector<int32_t> expected(const Request& request, int choice = 0) {
  std::vector<int32_t> all = request.prompt;
  Sampler sampler(request.sampling, request.prompt, choice);
  std::vector<float> logits(kShape.vocabulary);
  for (int64_t i = 0; i < *request.max_tokens; ++i) {
    FakeRunner::expected_logits(all, kShape.window, logits);
    all.push_back(*sampler.sample(logits));
  }
  return {all.begin() + static_cast<int64_t>(request.prompt.size()), all.end()};
}

/// Holds the engine's steps until it is opened, and can let single ones pass.
class Gate {
 public:
  std::function<void(const Batch&)> before() {
    return [this](const Batch& batch) {
      std::unique_lock lock(mutex_);
      rows_ = batch.rows();
      ++arrived_;
      changed_.notify_all();
      changed_.wait(lock, [this] { return open_ || passes_ > 0; });
      if (!open_) --passes_;
    };
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  /// Waits for the next step to be at the gate, and returns its rows.
  int64_t next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return arrived_ > seen_; });
    seen_ = arrived_;
    return rows_;
  }
  void pass() {
    const std::lock_guard lock(mutex_);
    ++passes_;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int64_t passes_ = 0, arrived_ = 0, seen_ = 0, rows_ = 0;
};

}  // namespace mxgpt
