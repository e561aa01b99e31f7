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

#include "engine/answer.h"
#include "engine/engine.h"
#include "engine/scheduler.h"

namespace mxgpt {

class Engine::Worker {
 public:
  Worker(std::unique_ptr<Runner> runner, int64_t vocabulary, const SchedulerLimits& limits,
         const EngineOptions& options);
  ~Worker();

  // From any thread.
  std::variant<TokenStream, Refusal> submit(Request request);
  void drain(std::chrono::steady_clock::time_point deadline);
  EngineStatus status() const;
  const SchedulerLimits& limits() const { return limits_; }
  int64_t vocabulary() const { return vocabulary_; }

 private:
  using Clock = std::chrono::steady_clock;

  void run();
  /// Waits for work and takes it from the inbox; false when the engine is to end.
  bool receive();
  void drop_ended();
  void step();
  /// The rows of the slices; what it refers to lives until the next call.
  Batch gather(std::span<const Slice> slices);
  /// What a slice's step brought goes to its stream; what has ended leaves.
  void settle(Answer& answer, const Slice& slice, Clock::time_point now);
  void finish(Answer& answer, Finish why, const std::string& what, Clock::time_point now);
  void publish();

  const SchedulerLimits limits_;
  const EngineOptions options_;
  const int64_t vocabulary_;

  mutable std::mutex mutex_;  // of the inbox
  std::condition_variable wake_, idle_;
  std::vector<std::unique_ptr<Answer>> inbox_;
  int64_t queued_ = 0, queued_tokens_ = 0;  // not yet begun
  int64_t requests_ = 0, refused_ = 0;
  bool draining_ = false, cancelling_ = false, stopping_ = false, busy_ = false;

  mutable std::mutex status_mutex_;
  EngineStatus published_;

  // The thread's own.
  std::unique_ptr<Runner> runner_;
  Scheduler scheduler_;
  std::vector<std::unique_ptr<Answer>> answers_;  // unordered
  EngineStatus status_;
  StepCost cost_;
  int64_t begun_ = 0, begun_tokens_ = 0;  // since the queue was last told
  bool cancel_all_ = false;
  std::vector<int32_t> tokens_, positions_, sequences_, logit_rows_;  // of the batch
  std::vector<int64_t> logits_at_;  // where a slice's logits begin

  std::thread thread_;  // the last member: it uses all others
};

}  // namespace mxgpt
