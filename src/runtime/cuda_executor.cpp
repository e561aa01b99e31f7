#include "runtime/cuda_executor.h"

#include <algorithm>

#include "base/error.h"
#include "runtime/host_memory_plan.h"

namespace mxgpt::runtime {

namespace {

cuda::BackendSpec backend_spec(const model::Config& c, const cuda::ModelTraits& traits,
                               const RunnerOptions& options) {
  const int64_t pages = options.kv_pages[static_cast<int>(backend::KvGroup::full)];
  return {.max_shapes = {.rows = std::max(options.max_batched_tokens, options.max_logit_rows),
                         .sequences = options.max_sequences,
                         .context =
                             pages ? std::min(c.context, pages * backend::kPageTokens) : c.context,
                         .vocabulary = c.vocabulary,
                         .hidden = c.hidden,
                         .max_linear_width = std::max(c.hidden, c.heads * c.head_dim),
                         .intermediate = c.intermediate,
                         .experts = c.experts,
                         .top_k = c.top_k,
                         .heads = c.heads,
                         .head_dim = c.head_dim},
          .model = traits,
          .run = {.precision = options.precision,
                  .accum_type = options.accum_type,
                  .kv_format = kv_format(c, options)}};
}

/// Everything but the KV cache and the frequencies of the RopeCaches.
model::RunState allocate_state(const model::Config& c, const cuda::BackendSpec& spec,
                               const RunnerOptions& options, cuda::DeviceArena& arena) {
  const int64_t rows = options.max_batched_tokens, half = c.head_dim / 2;
  model::RunState state{.x = arena.allocate<float>(rows * c.hidden),
                        .logits = arena.allocate<float>(options.max_logit_rows * c.vocabulary)};
  if (const int64_t floats = cuda::router_partial_floats(spec))
    state.router_partials = arena.allocate<float>(floats);
  for (size_t i = 0; i < model::rope_cache_count(c); ++i) {
    state.rope_caches.push_back({.rope = {.inv_freq = arena.allocate<float>(half)},
                                 .cos = arena.allocate<float>(rows * half),
                                 .sin = arena.allocate<float>(rows * half)});
  }
  return state;
}

void allocate_kv(const model::Config& c, const RunnerOptions& options, cuda::DeviceArena& arena,
                 model::RunState& state) {
  for (int64_t i = 0; i < c.layers; ++i) {
    const backend::KvGroup group = c.kv_group(i);
    const int64_t bytes = options.kv_pages[static_cast<int>(group)] * kv_page_bytes(c, options);
    auto* keys = arena.allocate<std::byte>(bytes);
    auto* values = arena.allocate<std::byte>(bytes);
    state.kv.push_back({group, kv_format(c, options), keys, values});
  }
}

int64_t planned_device_bytes(const model::Config& c, const cuda::ModelTraits& traits,
                             const RunnerOptions& options) {
  if (options.activation_hook) {
    throw Error(field::kDevice, "activation hooks are only supported on the CPU",
                "use the CPU device");
  }
  cuda::device_info();  // throws without a GPU
  const MemoryPlan plan = plan_cuda_executor(c, traits, options);
  return plan.kv_cache + plan.workspace;
}

}  // namespace

cuda::ModelTraits cuda_model_traits(const model::Config& c, const model::Weights& weights) {
  cuda::ModelTraits traits{.hidden = c.hidden,
                           .intermediate = c.intermediate,
                           .experts = c.experts,
                           .top_k = c.top_k,
                           .heads = c.heads,
                           .kv_heads = c.kv_heads,
                           .head_dim = c.head_dim,
                           .rope_style = c.rope_style,
                           .activation = c.activation.kind,
                           .lm_head = weights.lm_head.format};
  if (c.experts == 0) return traits;
  for (const model::Layer& layer : weights.layers) {
    traits.layers.push_back({.q = layer.q.format,
                             .k = layer.k.format,
                             .v = layer.v.format,
                             .o = layer.o.format,
                             .gate = layer.gate.format,
                             .up = layer.up.format,
                             .down = layer.down.format});
  }
  return traits;
}

MemoryPlan plan_cuda_executor(const model::Config& c, const cuda::ModelTraits& traits,
                              const RunnerOptions& options) {
  const cuda::BackendSpec spec = backend_spec(c, traits, options);
  cuda::DeviceArena arena;
  model::RunState state = allocate_state(c, spec, options, arena);
  cuda::measure_backend(spec, arena);
  MemoryPlan plan{.workspace = arena.used()};
  allocate_kv(c, options, arena, state);
  plan.kv_cache = arena.used() - plan.workspace;
  return plan;
}

CudaExecutor::CudaExecutor(const model::Config& c, const model::Weights& weights,
                           const RunnerOptions& options)
    : vocabulary_(c.vocabulary),
      device_(cuda::Memory::Kind::device,
              planned_device_bytes(c, cuda_model_traits(c, weights), options)),
      logits_(cuda::Memory::Kind::pinned,
              options.max_logit_rows * c.vocabulary * static_cast<int64_t>(sizeof(float))),
      arena_(device_.data()) {
  const cuda::BackendSpec spec = backend_spec(c, cuda_model_traits(c, weights), options);
  state_ = allocate_state(c, spec, options, arena_);
  backend_ = cuda::create_backend(spec, arena_);
  allocate_kv(c, options, arena_, state_);
  cuda::Stream& stream = backend_->step().stream();
  // Kernels multiply whole pages, with weight 0 for tokens that are not stored, so what lies there
  // must be finite.
  for (const backend::KvLayer& kv : state_.kv) {
    const int64_t bytes = options.kv_pages[static_cast<int>(kv.group)] * kv_page_bytes(c, options);
    stream.zero(kv.keys, bytes);
    stream.zero(kv.values, bytes);
  }
  for (size_t i = 0; i < state_.rope_caches.size(); ++i) {
    const model::RopeFrequencies frequencies = model::rope_frequencies(c.rope[i], c.head_dim);
    backend::Rope& rope = state_.rope_caches[i].rope;
    rope.magnitude = frequencies.magnitude;
    stream.copy(const_cast<float*>(rope.inv_freq), frequencies.inv_freq.data(),
                std::ssize(frequencies.inv_freq) * static_cast<int64_t>(sizeof(float)));
    stream.synchronize();
  }
}

std::span<const float> CudaExecutor::run(const backend::Batch& batch,
                                         const std::function<void()>& forward) {
  auto* logits = reinterpret_cast<float*>(logits_.data());
  const int64_t count = std::ssize(batch.logit_rows) * vocabulary_;
  cuda::Step& step = backend_->step();
  const auto work = [&] {
    step.upload();
    forward();
    if (count)
      step.stream().copy(logits, state_.logits, count * static_cast<int64_t>(sizeof(float)));
  };
  backend_->begin_step(batch);
  try {
    run_or_replay(step.key(), work);
    step.stream().synchronize();
    cuda::collect_timings();
  } catch (...) {
    // Enqueued kernels may still read the staged batch, which the next step overwrites. A sticky
    // CUDA error is reported by the next step.
    try {
      step.stream().synchronize();
    } catch (const Error&) {
    }
    throw;
  }
  return {logits, static_cast<size_t>(count)};
}

void CudaExecutor::run_or_replay(const cuda::GraphKey& key, const std::function<void()>& work) {
  if (!key.is_graphable() || cuda::is_profiling()) return work();
  const auto entry = graphs_.find(key);
  if (entry == graphs_.end()) {
    // The first step of a shape runs directly, so that its kernels are loaded before they are
    // captured. A full cache is cleared: shapes still in use return after two steps.
    if (graphs_.size() >= kMaxGraphs) graphs_.clear();
    graphs_.try_emplace(key);
    return work();
  }
  cuda::Stream& stream = backend_->step().stream();
  try {
    if (!entry->second) entry->second.emplace(stream, work);
    return entry->second->launch(stream);
  } catch (const cuda::OutOfMemory&) {
    graphs_.clear();  // graphs are optional: drop them rather than fail the request
  }
  work();
}

}  // namespace mxgpt::runtime
