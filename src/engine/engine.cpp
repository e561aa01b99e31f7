#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "engine/memory_fallback.h"
#include "engine/worker.h"

namespace mxgpt::engine {

namespace {

/// Logit rows beyond one per sequence, for prompt scores and drafts.
constexpr int64_t kSpareLogitRows = 32;

void require(bool condition, const char* field, const std::string& message) {
  if (!condition) throw Error(field, message);
}

}  // namespace

SchedulerLimits scheduler_limits(const EngineShape& shape, const EngineOptions& options) {
  const EngineOptions o = resolve_defaults(shape, options);
  require(o.context >= 0 && o.context <= shape.context, field::kContextLength,
          fmt::format("{} exceeds the model's {} tokens", o.context, shape.context));
  require(o.max_sequences >= 1 && o.max_sequences <= 4096, "max_sequences",
          fmt::format("{} is outside 1 to 4096", o.max_sequences));
  require(o.max_batched_tokens > o.max_sequences && o.max_batched_tokens <= 1 << 16, "max_rows",
          fmt::format("{} is outside {} (more than max_sequences) to {}", o.max_batched_tokens,
                      o.max_sequences + 1, 1 << 16));
  require(options.kv_tokens >= 0 && o.kv_tokens <= int64_t{1} << 31, "kv_tokens",
          fmt::format("{} is outside 0 to 2^31", options.kv_tokens));
  require(o.max_queue >= 1, "max_queue", "must be at least 1");
  require(o.max_stream_events >= 1, "max_stream_events", "must be at least 1");
  SchedulerLimits limits{
      .context = o.context,
      .max_sequences = o.max_sequences,
      .max_batched_tokens = o.max_batched_tokens,
      .max_logit_rows = std::min(o.max_batched_tokens, o.max_sequences + kSpareLogitRows),
      .window = shape.window};
  limits.set_pages(shape.has_kv_group, o.kv_tokens);
  return limits;
}

namespace {

/// Runners of a model.
class ModelRunnerFactory final : public runtime::RunnerFactory {
 public:
  explicit ModelRunnerFactory(const runtime::Model& model) : model_(model) {}
  std::unique_ptr<runtime::Runner> create(const runtime::RunnerOptions& options) override {
    return model_.create_runner(options);
  }
  runtime::MemoryPlan plan_memory(const runtime::RunnerOptions& options) const override {
    return runtime::device(options.device).plan_memory(model_, options);
  }

 private:
  const runtime::Model& model_;
};

/// Hands out a single runner that exists already.
class SingleRunnerFactory final : public runtime::RunnerFactory {
 public:
  explicit SingleRunnerFactory(std::unique_ptr<runtime::Runner> runner)
      : runner_(std::move(runner)) {}
  std::unique_ptr<runtime::Runner> create(const runtime::RunnerOptions&) override {
    if (!runner_) throw Error("engine", "has only one runner");
    return std::move(runner_);
  }
  runtime::MemoryPlan plan_memory(const runtime::RunnerOptions&) const override { return {}; }

 private:
  std::unique_ptr<runtime::Runner> runner_;
};

}  // namespace

EngineShape EngineShape::from_config(const model::Config& config) {
  EngineShape shape{
      .vocabulary = config.vocabulary, .context = config.context, .window = config.window};
  for (int64_t i = 0; i < config.layers; ++i)
    shape.has_kv_group[static_cast<int>(config.kv_group(i))] = true;
  shape.expert_layers = config.experts ? config.layers : 0;
  shape.supports_q8_kv = config.head_dim % quant::traits(quant::Format::q8_0).block_elements == 0;
  return shape;
}

runtime::RunnerOptions Engine::runner_options(const EngineShape& shape,
                                              const EngineOptions& options) {
  const SchedulerLimits limits = scheduler_limits(shape, options);
  runtime::RunnerOptions runner{.device = options.device,
                                .vram_budget = options.vram_budget,
                                .max_sequences = options.max_sequences,
                                .precision = options.precision,
                                .accum_type = options.accum_type,
                                .kv_format = options.kv_format,
                                .max_batched_tokens = limits.max_batched_tokens,
                                .max_logit_rows = limits.max_logit_rows,
                                .preallocate_kv = options.preallocate_kv,
                                .cpu_offload_layers = options.cpu_offload_layers};
  std::copy(std::begin(limits.pages), std::end(limits.pages), std::begin(runner.kv_pages));
  return runner;
}

Engine::Engine(const runtime::Model& model, const EngineOptions& options)
    : Engine(std::make_unique<ModelRunnerFactory>(model), EngineShape::from_config(model.config()),
             options) {}

Engine::Engine(std::unique_ptr<runtime::Runner> runner, const EngineShape& shape,
               const EngineOptions& options)
    : Engine(std::make_unique<SingleRunnerFactory>(std::move(runner)), shape, options) {}

Engine::Engine(std::unique_ptr<runtime::RunnerFactory> factory, const EngineShape& shape,
               const EngineOptions& options)
    : worker_(std::make_unique<Worker>(std::move(factory), shape, options)) {}

Engine::~Engine() = default;

int64_t Engine::context() const {
  return worker_->context();
}

int64_t Engine::vocabulary() const {
  return worker_->vocabulary();
}

EngineStatus Engine::status() const {
  return worker_->status();
}

void Engine::drain(std::chrono::steady_clock::time_point deadline) {
  worker_->drain(deadline);
}

std::variant<TokenStream, Engine::Rejection> Engine::submit(Request request) {
  const auto size = static_cast<int64_t>(request.prompt.size());
  const auto in_range = [](const char* field, int64_t value, int64_t low, int64_t high) {
    require(value >= low && value <= high, field,
            fmt::format("{} is outside {} to {}", value, low, high));
  };
  const auto in_vocabulary = [&](const char* field, std::span<const int32_t> tokens) {
    for (const int32_t token : tokens) {
      require(token >= 0 && token < vocabulary(), field,
              fmt::format("token {} is outside the vocabulary of {}", token, vocabulary()));
    }
  };
  require(size > 0, "prompt", "is empty");
  const bool wants_output = request.max_tokens != 0;
  require(size + wants_output <= context(), "prompt",
          fmt::format("{} tokens leave no room for an answer in a context of {}", size, context()));
  in_vocabulary("prompt", request.prompt);
  in_vocabulary("stop_tokens", request.stop_tokens);
  in_range("max_tokens", request.max_tokens.value_or(0), 0, INT64_MAX);
  in_range("choices", request.choices, 1, kMaxChoices);
  in_range("top_logprobs", request.top_logprobs.value_or(0), 0, kMaxTopLogprobs);
  in_range("priority", request.priority, -100, 100);
  request.sampling.check(vocabulary());
  MXGPT_CHECK(request.constraints.empty() ||
                  request.constraints.size() == static_cast<size_t>(request.choices),
              "{} constraints for {} choices", request.constraints.size(), request.choices);
  return worker_->submit(std::move(request));
}

}  // namespace mxgpt::engine
