#include "runtime/cuda_runner.h"

#include <algorithm>

#include "backend/cuda/weight_repack.h"
#include "base/error.h"
#include "runtime/host_memory_plan.h"

namespace mxgpt::runtime {

namespace {

cuda::MaxShapes max_shapes(const model::Config& c, const RunnerOptions& options) {
  const int64_t pages = options.kv_pages[static_cast<int>(backend::KvGroup::full)];
  return {.rows = std::max(options.max_batched_tokens, options.max_logit_rows),
          .sequences = options.max_sequences,
          .context = pages ? std::min(c.context, pages * backend::kPageTokens) : c.context,
          .vocabulary = c.vocabulary,
          .hidden = c.hidden,
          .max_linear_width = std::max(c.hidden, c.heads * c.head_dim),
          .intermediate = c.intermediate,
          .experts = c.experts,
          .top_k = c.top_k,
          .heads = c.heads,
          .head_dim = c.head_dim};
}

/// Takes everything but the backend's own; the ropes' frequencies are not yet there.
model::RunState allocate_state(const model::Config& c, const RunnerOptions& options,
                               cuda::DeviceArena& arena) {
  const int64_t rows = options.max_batched_tokens, half = c.head_dim / 2;
  model::RunState state{.x = arena.allocate<float>(rows * c.hidden),
                        .q = arena.allocate<float>(rows * c.heads * c.head_dim),
                        .attn_out = arena.allocate<float>(rows * c.heads * c.head_dim),
                        .logits = arena.allocate<float>(options.max_logit_rows * c.vocabulary)};
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

bool uses_sm90_kernels(const model::Config& c, const RunnerOptions& options) {
  return options.precision == backend::Precision::mixed &&
         options.accum_type == kernels::AccumType::f32 && c.experts > 0 &&
         cuda::device_caps().has_sm90;
}

int64_t planned_device_bytes(const model::Config& c, const RunnerOptions& options) {
  if (options.activation_hook)
    throw Error("--device cuda", "what looks into a step needs the CPU", "take --device cpu");
  cuda::device_info();  // throws where there is none
  const MemoryPlan plan = plan_cuda_runner(c, options);
  return plan.kv + plan.workspace;
}

}  // namespace

MemoryPlan plan_cuda_runner(const model::Config& c, const RunnerOptions& options) {
  cuda::DeviceArena arena;
  model::RunState state = allocate_state(c, options, arena);
  const cuda::Workspace backend(max_shapes(c, options), arena, cuda::device_caps(),
                                uses_sm90_kernels(c, options));
  MemoryPlan plan{.workspace = arena.used()};
  allocate_kv(c, options, arena, state);
  plan.kv = arena.used() - plan.workspace;
  return plan;
}

CudaRunState::CudaRunState(const model::Config& c, const RunnerOptions& options)
    : vocabulary_(c.vocabulary),
      device_(cuda::Memory::Kind::device, planned_device_bytes(c, options)),
      logits_(cuda::Memory::Kind::pinned,
              options.max_logit_rows * c.vocabulary * static_cast<int64_t>(sizeof(float))),
      arena_(device_.data()),
      state(allocate_state(c, options, arena_)),
      backend(max_shapes(c, options), arena_, options.accum_type, uses_sm90_kernels(c, options)) {
  allocate_kv(c, options, arena_, state);
  // Whole pages are multiplied, with weights of 0 where nothing was stored, which must be numbers.
  for (const backend::KvLayer& kv : state.kv) {
    const int64_t bytes = options.kv_pages[static_cast<int>(kv.group)] * kv_page_bytes(c, options);
    backend.stream().zero(kv.keys, bytes);
    backend.stream().zero(kv.values, bytes);
  }
  for (size_t i = 0; i < state.rope_caches.size(); ++i) {
    const model::RopeFrequencies frequencies = model::rope_frequencies(c.rope[i], c.head_dim);
    backend::Rope& rope = state.rope_caches[i].rope;
    rope.magnitude = frequencies.magnitude;
    backend.stream().copy(const_cast<float*>(rope.inv_freq), frequencies.inv_freq.data(),
                          std::ssize(frequencies.inv_freq) * static_cast<int64_t>(sizeof(float)));
    backend.stream().synchronize();
  }
}

std::span<const float> CudaRunState::run(const backend::Batch& batch,
                                         const std::function<void()>& forward) {
  auto* logits = reinterpret_cast<float*>(logits_.data());
  const int64_t count = std::ssize(batch.logit_rows) * vocabulary_;
  cuda::Stream& stream = backend.stream();
  const auto work = [&] {
    forward();
    if (count) stream.copy(logits, state.logits, count * static_cast<int64_t>(sizeof(float)));
  };
  const cuda::GraphKey& shape = backend.stage_batch(batch);
  try {
    run_or_replay(shape, work);
    stream.synchronize();
    cuda::collect_timings();
  } catch (...) {
    // What was enqueued may still read the batch that the next step writes. An error of the GPU's
    // own comes again with the next step, and is told then.
    try {
      stream.synchronize();
    } catch (const Error&) {
    }
    throw;
  }
  return {logits, static_cast<size_t>(count)};
}

void CudaRunState::run_or_replay(const cuda::GraphKey& shape, const std::function<void()>& work) {
  if (!shape.is_graphable() || cuda::is_profiling()) return work();
  const auto entry = graphs_.find(shape);
  if (entry == graphs_.end()) {
    // The first step of a shape is taken as it comes, so that its kernels are loaded before any is
    // recorded. All are forgotten when they are many: those in use come back after two steps.
    if (graphs_.size() >= kMaxGraphs) graphs_.clear();
    graphs_.try_emplace(shape);
    return work();
  }
  try {
    if (!entry->second) entry->second.emplace(backend.stream(), work);
    return entry->second->launch(backend.stream());
  } catch (const cuda::OutOfMemory&) {
    graphs_.clear();  // a convenience, which is not worth an answer
  }
  work();
}

}  // namespace mxgpt::runtime
