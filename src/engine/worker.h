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
  /// Throws what the source does, runtime::OutOfDeviceMemory only for the least that the engine can
  /// do with.
  Worker(std::unique_ptr<runtime::RunnerFactory> factory, const EngineShape& shape,
         const EngineOptions& options);
  ~Worker();

  // From any thread.
  std::variant<TokenStream, Rejection> submit(Request request);
  void drain(std::chrono::steady_clock::time_point deadline);
  EngineStatus status() const;
  int64_t context() const { return options_.context; }
  int64_t vocabulary() const { return shape_.vocabulary; }

 private:
  using Clock = std::chrono::steady_clock;

  void run();
  /// Waits for work and takes it from the inbox; false when the engine is to end.
  bool receive_requests();
  void reap();
  void step();
  /// The rows of the slices; what it refers to lives until the next call.
  backend::Batch build_batch(std::span<const ScheduledChunk> chunks);
  /// What a slice's step brought goes to its stream; what has ended leaves.
  void commit_tokens(ActiveSequence& sequence, const ScheduledChunk& chunk, Clock::time_point now);
  void finish(ActiveSequence& sequence, FinishReason reason, const std::string& error,
              Clock::time_point now);

  /// Gives up something, and takes note; false if there is nothing left to give up.
  bool apply_fallback(const runtime::OutOfDeviceMemory& shortage, bool during_step);
  /// Makes the largest runner that there is memory for, by options no larger than those in force.
  void create_runner(bool during_step);
  /// A smaller runner takes the place of the one whose step found too little memory; what was in
  /// work waits again. With the smallest too large, all of it ends, and the next request finds out
  /// whether there is more by then.
  void recover(const runtime::OutOfDeviceMemory& shortage);
  void abort_all(const std::string& error);
  void publish_status();

  const EngineShape shape_;
  const EngineOptions options_;  // resolved, as the engine was asked for

  mutable std::mutex mutex_;  // of the inbox
  std::condition_variable wake_, idle_;
  std::vector<std::unique_ptr<ActiveSequence>> inbox_;
  int64_t queued_ = 0, queued_tokens_ = 0;  // not yet begun
  int64_t requests_ = 0, refused_ = 0;
  bool draining_ = false, cancelling_ = false, stopping_ = false, busy_ = false;

  mutable std::mutex status_mutex_;
  EngineStatus published_;

  // The thread's own.
  EngineOptions current_options_;  // what of options_ there is memory for
  std::unique_ptr<runtime::RunnerFactory> runner_factory_;
  EngineStatus status_;
  std::unique_ptr<runtime::Runner>
      runner_;  // null after a shortage that nothing could be given up for
  Scheduler scheduler_;
  std::vector<std::unique_ptr<ActiveSequence>> active_;  // unordered
  StepCostModel step_cost_;
  int64_t started_ = 0, started_tokens_ = 0;  // since the queue was last told
  bool cancel_all_ = false;
  bool all_blocked_ = false;  // no sequence could run in the last step
  std::vector<int32_t> tokens_, positions_, sequences_, logit_rows_;  // of the batch
  std::vector<int64_t> logits_offsets_;  // where a slice's logits begin

  std::thread thread_;  // the last member: it uses all others
};

}  // namespace mxgpt::engine
