// The engine: many requests on one runner, batched step by step.
//
// One thread, the engine's own, has scheduler, KV pages and runner. Clients touch two things only:
// the inbox, by submit(), and the stream that it returns. The model outlives the engine.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <variant>
#include <vector>

#include "engine/request.h"
#include "kernels/accum_type.h"
#include "runtime/model.h"
#include "runtime/runner.h"

namespace mxgpt::engine {

/// Limits; each bounds memory or the time that one client can take from others.
struct EngineOptions {
  int64_t context = 0;         ///< longest prompt with its answer; 0: the model's own, at most
                               ///< kDefaultContext
  int64_t max_sequences = 32;  ///< answers in work at once; the others queue
  int64_t max_batched_tokens =
      0;                     ///< tokens of a step, more than max_sequences; long prompts are cut;
                             ///< 0: 512, on a GPU, which it takes more to keep busy, 2048
  int64_t kv_tokens = 0;     ///< that the pages of full layers hold in all, of sequences in work
                             ///< and of the prefix cache; 0: 65,536, or the context if longer
  int64_t max_queue = 1024;  ///< choices in the queue
  int64_t max_queued_tokens = 1 << 22;  ///< of their prompts
  int64_t max_stream_events = 16384;    ///< that may wait to be read, of a request
  int64_t max_repeated_tokens = 256;    ///< an answer whose last tokens are one circle of at most 8
                                        ///< tokens for longer than this has collapsed; 0: never
  std::string_view device = "cpu";      ///< name in the registry of runtime/device.h
  int64_t vram_budget = 0;              ///< as of RunnerOptions
  bool speculate = true;  ///< guess tokens from the text so far, where that is quicker
  backend::Precision precision = backend::Precision::mixed;
  kernels::AccumType accum_type = kernels::AccumType::f32;
  std::optional<quant::Format>
      kv_format;                ///< of the KV cache; empty: f32 in exact precision, else f16
  bool preallocate_kv = false;  ///< as of RunnerOptions

  // What is given up for want of a GPU's memory: see ladder.h.
  int64_t cpu_offload_layers = 0;  ///< of the last layers, experts stay in host memory
  bool no_offload = false;         ///< nothing of the model may: rather than that, an error
};

/// What the engine must know of a model.
struct EngineShape {
  int64_t vocabulary = 0;
  int64_t context = 0;                         ///< longest that the model was made for
  bool has_kv_group[backend::kKvGroups] = {};  ///< whether there are full layers, sliding layers
  int64_t window = 0;                          ///< of the sliding ones
  bool supports_q8_kv = false;                 ///< whether its KV cache can be q8_0
  int64_t expert_layers = 0;                   ///< whose experts a GPU can read from host memory

  static EngineShape from_config(const model::Config& config);
};

/// What was given up for want of a GPU's memory.
struct MemoryFallback {
  enum class Kind {
    batched_tokens,  ///< tokens of a step
    sequences,       ///< answers in work at once, and with them the cache
    kv_format,       ///< of the KV cache
    cpu_offload,     ///< layers whose experts stay in host memory
  };
  Kind kind;
  std::string from, to;
  bool during_step = false;           ///< and not when the model was loaded
  int64_t needed = 0, available = 0;  ///< bytes, of the shortage
};
std::string_view name(MemoryFallback::Kind kind);

struct EngineStatus {
  struct Pages {
    int64_t total = 0;
    int64_t used = 0;    ///< by sequences in work
    int64_t cached = 0;  ///< by the prefix cache alone; given up when needed
  };
  int64_t queued = 0, running = 0;  ///< choices
  int64_t queued_tokens = 0;        ///< of their prompts
  Pages pages[backend::kKvGroups];  ///< by KvGroup
  int64_t context = 0, max_sequences = 0, max_batched_tokens = 0;
  bool draining = false;

  struct Memory {
    std::string_view device = "cpu";
    runtime::MemoryPlan planned;  ///< zeros on the CPU, and while there is too little
    int64_t budget = 0;           ///< 0: what is free
    bool no_offload = false;
    int64_t shortages = 0;  ///< times that memory did not suffice, when loading and in steps
    std::string last_shortage;
    std::vector<MemoryFallback> applied_fallbacks;  ///< for that, oldest first
  } memory;

  // Since the engine began.
  int64_t requests = 0, rejected = 0;  ///< refused: the queue was full
  int64_t finished[10] = {};           ///< choices, by Finish
  int64_t prompt_tokens = 0;           ///< of choices that began
  int64_t cached_tokens = 0;           ///< of these, found in the cache
  int64_t output_tokens = 0;
  int64_t steps = 0, batched_tokens = 0;
  int64_t draft_tokens = 0, accepted_draft_tokens = 0;  ///< tokens guessed; those that were drawn
  int64_t preemptions = 0;
  int64_t failed_steps = 0;
  std::string last_failure;  ///< of a step
  double step_seconds = 0;   ///< in the runner
  double busy_seconds = 0;   ///< in all, scheduling and sampling included
};

class Engine {
 public:
  Engine(const runtime::Model& model, const EngineOptions& options);
  /// On a runner made for runner_options() of the same shape and options.
  Engine(std::unique_ptr<runtime::Runner> runner, const EngineShape& shape,
         const EngineOptions& options);
  /// On a runner that `source` makes, as large as there is memory for: throws OutOfDeviceMemory if
  /// there is too little for the smallest. When a step finds too little, the next smaller takes its
  /// place, and what was in work is computed anew.
  Engine(std::unique_ptr<runtime::RunnerFactory> factory, const EngineShape& shape,
         const EngineOptions& options);
  /// Cancels what is left.
  ~Engine();

  /// What a runner must be made for. Throws Error for options that contradict each other or the
  /// shape.
  static runtime::RunnerOptions runner_options(const EngineShape& shape,
                                               const EngineOptions& options);

  /// Why a request was not taken, an expected outcome.
  enum class Rejection { queue_full, draining };

  /// From any thread; never waits. Throws Error, naming the field, for a request that makes no
  /// sense or cannot fit.
  std::variant<TokenStream, Rejection> submit(Request request);

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

}  // namespace mxgpt::engine
