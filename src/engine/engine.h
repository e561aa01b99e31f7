// The engine: many requests on one runner, batched step by step.
//
// One thread, the engine's own, has scheduler, KV pages and runner. Clients touch two things only:
// the inbox, by submit(), and the stream that it returns. The model outlives the engine.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>

#include "engine/request.h"
#include "model/model.h"
#include "model/runner.h"

namespace mxgpt {

/// Limits; each bounds memory or the time that one client can take from others.
struct EngineOptions {
  int64_t context = 0;         ///< longest prompt with its answer; 0: the model's own, at most
                               ///< kDefaultContext
  int64_t max_sequences = 32;  ///< answers in work at once; the others queue
  int64_t max_rows = 512;      ///< tokens of a step, more than max_sequences; long prompts are cut
  int64_t kv_tokens = 0;       ///< that the pages of full layers hold in all, of sequences in work
                               ///< and of the prefix cache; 0: 65,536, or the context if longer
  int64_t max_queue = 1024;    ///< choices in the queue
  int64_t max_queued_tokens = 1 << 22;  ///< of their prompts
  int64_t stream_events = 16384;        ///< that may wait to be read, of a request
  int64_t repetition = 256;  ///< an answer whose last tokens are one circle of at most 8 tokens for
                             ///< longer than this has collapsed; 0: never
  Device device = Device::cpu;
  int64_t vram_budget = 0;  ///< as of RunnerOptions
  bool drafts = true;       ///< guess tokens from the text so far, where that is quicker
  Precision precision = Precision::standard;
  Accumulate accumulate = Accumulate::f32;
  std::optional<Format> kv;  ///< of the KV cache; empty: f32 in exact precision, else f16
};

/// What the engine must know of a model.
struct EngineShape {
  int64_t vocabulary = 0;
  int64_t context = 0;             ///< longest that the model was made for
  bool has_group[kKvGroups] = {};  ///< whether there are full layers, sliding layers
  int64_t window = 0;              ///< of the sliding ones

  static EngineShape of(const Config& config);
};

struct EngineStatus {
  struct Pages {
    int64_t total = 0;
    int64_t used = 0;    ///< by sequences in work
    int64_t cached = 0;  ///< by the prefix cache alone; given up when needed
  };
  int64_t queued = 0, running = 0;  ///< choices
  int64_t queued_tokens = 0;        ///< of their prompts
  Pages pages[kKvGroups];           ///< by KvGroup
  int64_t context = 0, max_sequences = 0, max_rows = 0;
  bool draining = false;

  // Since the engine began.
  int64_t requests = 0, refused = 0;  ///< refused: the queue was full
  int64_t ended[8] = {};              ///< choices, by Finish
  int64_t prompt_tokens = 0;          ///< of choices that began
  int64_t cached_tokens = 0;          ///< of these, found in the cache
  int64_t answer_tokens = 0;
  int64_t steps = 0, step_rows = 0;
  int64_t drafts = 0, right_drafts = 0;  ///< tokens guessed; those that were drawn
  int64_t preemptions = 0;
  int64_t failed_steps = 0;
  std::string last_failure;  ///< of a step
  double step_seconds = 0;   ///< in the runner
  double busy_seconds = 0;   ///< in all, scheduling and sampling included
};

class Engine {
 public:
  Engine(const Model& model, const EngineOptions& options);
  /// On a runner made for runner_options() of the same shape and options.
  Engine(std::unique_ptr<Runner> runner, const EngineShape& shape, const EngineOptions& options);
  /// Cancels what is left.
  ~Engine();

  /// What a runner must be made for. Throws Error for options that contradict each other or the
  /// shape.
  static RunnerOptions runner_options(const EngineShape& shape, const EngineOptions& options);

  /// Why a request was not taken, an expected outcome.
  enum class Refusal { queue_full, draining };

  /// From any thread; never waits. Throws Error, naming the field, for a request that makes no
  /// sense or cannot fit.
  std::variant<TokenStream, Refusal> submit(Request request);

  /// Takes no more requests, and returns when all have ended; those that have not at `deadline`
  /// are cancelled.
  void drain(std::chrono::steady_clock::time_point deadline);

  /// As of the last step; cheap.
  EngineStatus status() const;

  int64_t context() const;
  int64_t vocabulary() const;

 private:
  class Worker;  // the engine's thread and what it has
  std::unique_ptr<Worker> worker_;
};

}  // namespace mxgpt
