// The engine's thread, and all it has. Internal to the engine.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "engine/active_sequence.h"
#include "engine/engine.h"
#include "engine/scheduler.h"

namespace mxgpt::engine {

/// Throws Error for options that contradict each other or the shape.
SchedulerLimits scheduler_limits(const EngineShape& shape, const EngineOptions& options);

class Engine::Worker {
 public:
  /// Throws what the factory throws; OutOfDeviceMemory only if no fallback is left.
  Worker(std::unique_ptr<runtime::RunnerFactory> factory, const EngineShape& shape,
         const EngineOptions& options);
  ~Worker();

  // Thread-safe.
  std::variant<TokenStream, Rejection> submit(Request request);
  void drain(std::chrono::steady_clock::time_point deadline);
  EngineStatus status() const;
  int64_t context() const { return options_.context; }
  int64_t vocabulary() const { return shape_.vocabulary; }

 private:
  using Clock = std::chrono::steady_clock;

  void run();
  /// Waits for requests and takes them from the inbox. Returns false when the engine stops.
  bool receive_requests();
  void reap();
  void step();
  /// The batch of these chunks. Its spans are valid until the next call.
  backend::Batch build_batch(std::span<const ScheduledChunk> chunks);
  /// Delivers the tokens of a step to the stream and removes a finished sequence.
  void commit_tokens(ActiveSequence& sequence, const ScheduledChunk& chunk, Clock::time_point now);
  void finish(ActiveSequence& sequence, FinishReason reason, const std::string& error,
              Clock::time_point now);

  /// Applies and records the next fallback. Returns false if none is left.
  bool apply_fallback(const runtime::OutOfDeviceMemory& shortage, bool during_step);
  /// Creates the largest runner that fits, with options at most the current ones.
  void create_runner(bool during_step);
  /// Replaces the runner whose step ran out of memory by a smaller one; running sequences wait
  /// again. If none fits, aborts all sequences; the next request tries again.
  void recover(const runtime::OutOfDeviceMemory& shortage);
  void abort_all(const std::string& error);
  void publish_status();

  const EngineShape shape_;
  const EngineOptions options_;  // as requested, with defaults resolved

  mutable std::mutex mutex_;  // guards the inbox
  std::condition_variable wake_, idle_;
  std::vector<std::unique_ptr<ActiveSequence>> inbox_;
  int64_t queued_ = 0, queued_tokens_ = 0;  // not started
  int64_t requests_ = 0, refused_ = 0;
  bool draining_ = false, cancelling_ = false, stopping_ = false, busy_ = false;

  mutable std::mutex status_mutex_;
  EngineStatus published_;

  // Engine thread only.
  EngineOptions current_options_;  // options_ after memory fallbacks
  std::unique_ptr<runtime::RunnerFactory> runner_factory_;
  EngineStatus status_;
  std::unique_ptr<runtime::Runner> runner_;  // null after a shortage without fallbacks left
  Scheduler scheduler_;
  std::vector<std::unique_ptr<ActiveSequence>> active_;  // unordered
  StepCostModel step_cost_;
  int64_t started_ = 0, started_tokens_ = 0;  // not yet subtracted from queued_
  bool cancel_all_ = false;
  bool all_blocked_ = false;  // no sequence could run in the last step
  std::vector<int32_t> tokens_, positions_, sequences_, logit_rows_;  // the batch of the step
  std::vector<int64_t> logits_offsets_;                               // first logit of each chunk

  std::thread thread_;  // the last member: it uses all others
};

}  // namespace mxgpt::engine
