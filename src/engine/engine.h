// The engine: many requests on one runner, batched step by step.
//
// One thread owns the scheduler, the KV cache pages and the runner. Clients use submit() and the
// stream that it returns. The model outlives the engine.
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

/// Context length if none is set, unless the model's is shorter.
inline constexpr int64_t kDefaultContext = 32768;

/// Limits. Each bounds memory, or the time that one client can take from others.
struct EngineOptions {
  int64_t context =
      0;  ///< prompt and output tokens per sequence; 0: the model's, at most kDefaultContext
  int64_t max_sequences = 32;  ///< concurrent sequences; further ones are queued
  int64_t max_batched_tokens =
      0;  ///< token budget per step, above max_sequences; 0: the default of the device
  int64_t kv_tokens =
      0;  ///< KV cache size in tokens, prefix cache included; 0: 65,536 or `context`
  int64_t max_queue = 1024;             ///< queued choices
  int64_t max_queued_tokens = 1 << 22;  ///< prompt tokens of queued choices
  int64_t max_stream_events = 16384;    ///< unread events per request
  int64_t max_repeated_tokens =
      256;  ///< ends output that repeats a cycle of at most 8 tokens for so long; 0: never
  std::string_view device = "cpu";  ///< name in the registry of runtime/device.h
  int64_t vram_budget = 0;          ///< see RunnerOptions
  bool speculate = true;            ///< speculative decoding by prompt lookup, where it is faster
  backend::Precision precision = backend::Precision::mixed;
  kernels::AccumType accum_type = kernels::AccumType::f32;
  std::optional<quant::Format>
      kv_format;                ///< format of the KV cache; empty: f32 in exact precision, else f16
  bool preallocate_kv = false;  ///< see RunnerOptions

  // Fallbacks when device memory is too small: see memory_fallback.h.
  int64_t cpu_offload_layers = 0;  ///< experts of so many last layers stay in host memory
  bool no_offload = false;         ///< fail instead of offloading
};

/// Properties of a model that the engine needs.
struct EngineShape {
  int64_t vocabulary = 0;
  int64_t context = 0;                         ///< maximum context length of the model
  bool has_kv_group[backend::kKvGroups] = {};  ///< whether the model has full and sliding layers
  int64_t window = 0;                          ///< tokens visible to sliding layers
  bool supports_q8_kv = false;                 ///< whether the KV cache can be q8_0
  int64_t expert_layers = 0;                   ///< layers whose experts can be offloaded

  static EngineShape from_config(const model::Config& config);
};

/// A reduction of the options because device memory was too small.
struct MemoryFallback {
  enum class Kind {
    batched_tokens,  ///< token budget per step
    sequences,       ///< concurrent sequences and the KV cache size
    kv_format,       ///< of the KV cache
    cpu_offload,     ///< layers whose experts stay in host memory
  };
  Kind kind;
  std::string from, to;
  bool during_step = false;           ///< in a step, not while loading
  int64_t needed = 0, available = 0;  ///< bytes
};
std::string_view name(MemoryFallback::Kind kind);

struct EngineStatus {
  struct Pages {
    int64_t total = 0;
    int64_t used = 0;    ///< referenced by running sequences
    int64_t cached = 0;  ///< prefix cache only; evicted on demand
  };
  int64_t queued = 0, running = 0;  ///< choices
  int64_t queued_tokens = 0;        ///< prompt tokens of queued choices
  Pages pages[backend::kKvGroups];  ///< by KvGroup
  int64_t context = 0, max_sequences = 0, max_batched_tokens = 0;
  bool draining = false;

  struct Memory {
    std::string_view device = "cpu";
    runtime::MemoryPlan planned;  ///< zeros while no runner fits
    int64_t budget = 0;           ///< bytes; 0: all free memory
    bool no_offload = false;
    int64_t shortages = 0;  ///< out-of-memory events while loading and in steps
    std::string last_shortage;
    std::vector<MemoryFallback> applied_fallbacks;  ///< oldest first
  } memory;

  // Counters since the engine started.
  int64_t requests = 0, rejected = 0;  ///< rejected: the queue was full
  int64_t finished[10] = {};           ///< choices by FinishReason
  int64_t prompt_tokens = 0;           ///< of choices that started
  int64_t cached_tokens = 0;           ///< of these, found in the prefix cache
  int64_t output_tokens = 0;
  int64_t steps = 0, batched_tokens = 0;
  int64_t draft_tokens = 0, accepted_draft_tokens = 0;  ///< draft tokens computed; those accepted
  int64_t preemptions = 0;
  int64_t failed_steps = 0;
  std::string last_failure;  ///< of a failed step
  double step_seconds = 0;   ///< time in the runner
  double busy_seconds = 0;   ///< total, including scheduling and sampling
};

class Engine {
 public:
  Engine(const runtime::Model& model, const EngineOptions& options);
  /// Uses a runner created with runner_options() of the same shape and options.
  Engine(std::unique_ptr<runtime::Runner> runner, const EngineShape& shape,
         const EngineOptions& options);
  /// Creates the largest runner that fits in memory. Throws OutOfDeviceMemory if the smallest does
  /// not fit. If a step runs out of memory, a smaller runner replaces the current one and running
  /// sequences are recomputed.
  Engine(std::unique_ptr<runtime::RunnerFactory> factory, const EngineShape& shape,
         const EngineOptions& options);
  /// Cancels all requests.
  ~Engine();

  /// Options for a runner of this engine. Throws Error for options that contradict each other or
  /// the shape.
  static runtime::RunnerOptions runner_options(const EngineShape& shape,
                                               const EngineOptions& options);

  /// Why a request is not accepted; an expected outcome.
  enum class Rejection { queue_full, draining };

  /// Thread-safe, never blocks. Throws Error, naming the field, for a request that is invalid or
  /// cannot fit.
  std::variant<TokenStream, Rejection> submit(Request request);

  /// Rejects new requests and returns when all have finished. Cancels those still running at
  /// `deadline`.
  void drain(std::chrono::steady_clock::time_point deadline);

  /// State after the last step; cheap.
  EngineStatus status() const;

  int64_t context() const;
  int64_t vocabulary() const;

 private:
  class Worker;  // the engine thread and its state
  std::unique_ptr<Worker> worker_;
};

}  // namespace mxgpt::engine
