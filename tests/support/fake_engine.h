// An engine on a runner without a model, with helpers to submit requests and read streams.
#pragma once

#include <gmock/gmock.h>

#include <condition_variable>
#include <mutex>
#include <optional>

#include "engine/engine.h"
#include "support/fake_runner.h"

namespace mxgpt {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

inline constexpr engine::EngineShape kShape{
    .vocabulary = 97, .context = 4096, .has_kv_group = {true, true}, .window = 70};
inline constexpr engine::EngineOptions kSmall{
    .context = 1024, .max_sequences = 8, .max_batched_tokens = 64, .kv_tokens = 2048};

inline std::unique_ptr<engine::Engine> make_engine(
    const engine::EngineOptions& options = kSmall,
    std::function<void(const backend::Batch&)> before = {}) {
  auto runner = std::make_unique<FakeRunner>(engine::Engine::runner_options(kShape, options),
                                             kShape.vocabulary, kShape.window);
  runner->before = std::move(before);
  return std::make_unique<engine::Engine>(std::move(runner), kShape, options);
}

inline std::vector<int32_t> random_tokens(int64_t count, uint64_t seed) {
  std::vector<int32_t> result(count);
  for (int32_t& token : result) token = static_cast<int32_t>((seed = mix_hash(seed)) % 97);
  return result;
}

inline engine::TokenStream submit(engine::Engine& engine, engine::Request request) {
  auto submitted = engine.submit(std::move(request));
  EXPECT_TRUE(std::holds_alternative<engine::TokenStream>(submitted));
  return std::get<engine::TokenStream>(std::move(submitted));
}

struct StreamResult {
  std::vector<std::vector<int32_t>> tokens;  ///< by choice
  std::vector<engine::ChoiceEnd> ends;       ///< by choice
  std::vector<engine::ChoiceToken> events;
  std::vector<engine::PromptToken> prompt;
};

inline StreamResult read_stream(engine::TokenStream& stream, int choices = 1) {
  StreamResult heard;
  heard.tokens.resize(choices);
  heard.ends.resize(choices);
  for (bool last = false; !last;) {
    for (const engine::StreamEvent& event : stream.wait(Clock::now() + 20s)) {
      EXPECT_FALSE(last) << "an event after the last";
      if (const auto* token = std::get_if<engine::ChoiceToken>(&event)) {
        heard.tokens[token->choice].push_back(token->token);
        heard.events.push_back(*token);
      } else if (const auto* scored = std::get_if<engine::PromptToken>(&event)) {
        heard.prompt.push_back(*scored);
      } else {
        const auto& end = std::get<engine::ChoiceEnd>(event);
        heard.ends[end.choice] = end;
        last = end.last;
      }
    }
  }
  return heard;
}

/// The output by definition: each token is sampled from the whole text before it.
inline std::vector<int32_t> expected_tokens(const engine::Request& request, int choice = 0) {
  std::vector<int32_t> all = request.prompt;
  engine::Sampler sampler(request.sampling, request.prompt, choice);
  std::vector<float> logits(kShape.vocabulary);
  for (int64_t i = 0; i < *request.max_tokens; ++i) {
    FakeRunner::expected_logits(all, kShape.window, logits);
    all.push_back(*sampler.sample(logits));
  }
  return {all.begin() + static_cast<int64_t>(request.prompt.size()), all.end()};
}

/// Blocks the engine's steps until it is opened; can let single steps pass.
class Gate {
 public:
  std::function<void(const backend::Batch&)> before() {
    return [this](const backend::Batch& batch) {
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
  /// Waits until the next step reaches the gate; returns its number of tokens.
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
