#include "runtime/cpu_executor.h"

#include <algorithm>

#include "base/thread_pool.h"
#include "runtime/host_memory_plan.h"

namespace mxgpt::runtime {

namespace {

backend::MaxShapes max_shapes(const model::Config& c, const RunnerOptions& options) {
  return {.rows = std::max(options.max_batched_tokens, options.max_logit_rows),
          .hidden = c.hidden,
          .max_linear_width = std::max(c.hidden, c.heads * c.head_dim),
          .intermediate = c.intermediate,
          .experts = c.experts,
          .top_k = c.top_k,
          .heads = c.heads,
          .head_dim = c.head_dim};
}

/// Everything but the KV cache and the frequencies of the RopeCaches.
model::RunState allocate_state(const model::Config& c, const RunnerOptions& options, Arena& arena) {
  const int64_t rows = options.max_batched_tokens;
  const auto allocate = [&](int64_t count) { return arena.allocate<float>(count).data(); };
  model::RunState state{.x = allocate(rows * c.hidden),
                        .logits = allocate(options.max_logit_rows * c.vocabulary)};
  for (size_t i = 0; i < model::rope_cache_count(c); ++i) {
    const int64_t angles = rows * c.head_dim / 2;
    state.rope_caches.push_back({.rope = {}, .cos = allocate(angles), .sin = allocate(angles)});
  }
  return state;
}

size_t state_bytes(const model::Config& c, const RunnerOptions& options) {
  Arena measured;
  allocate_state(c, options, measured);
  return measured.used();
}

/// Touches every page, so that the system cannot run out of memory for them later.
void prefault(const PageMemory& memory) {
  constexpr int64_t kRange = 2 << 20, kPage = 4096;
  parallel_ranges(static_cast<int64_t>(memory.size()), kRange, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += kPage)
      *const_cast<volatile std::byte*>(memory.data() + at) = std::byte{};
  });
}

}  // namespace

size_t CpuExecutor::workspace_bytes(const model::Config& c, const RunnerOptions& options) {
  return cpu::CpuBackend::bytes(max_shapes(c, options), options.precision) +
         state_bytes(c, options);
}

CpuExecutor::CpuExecutor(const model::Config& c, const RunnerOptions& options)
    : vocabulary_(c.vocabulary),
      backend_(max_shapes(c, options), options.precision, options.activation_hook,
               options.accum_type),
      arena_(state_bytes(c, options), "workspace"),
      state_(allocate_state(c, options, arena_)) {
  for (size_t i = 0; i < state_.rope_caches.size(); ++i)
    frequencies_.push_back(model::rope_frequencies(c.rope[i], c.head_dim));
  for (size_t i = 0; i < state_.rope_caches.size(); ++i)
    state_.rope_caches[i].rope = {frequencies_[i].inv_freq.data(), frequencies_[i].magnitude};
  for (int64_t i = 0; i < c.layers; ++i) {
    const backend::KvGroup group = c.kv_group(i);
    const size_t bytes = options.kv_pages[static_cast<int>(group)] * kv_page_bytes(c, options);
    std::byte* keys = kv_.emplace_back(bytes, "the KV cache").data();
    std::byte* values = kv_.emplace_back(bytes, "the KV cache").data();
    state_.kv.push_back({group, kv_format(c, options), keys, values});
  }
  if (!options.preallocate_kv) return;
  for (const PageMemory& memory : kv_) prefault(memory);
}

std::span<const float> CpuExecutor::run(const backend::Batch& batch,
                                        const std::function<void()>& forward) {
  backend_.begin_step(batch);
  forward();
  return {state_.logits, batch.logit_rows.size() * static_cast<size_t>(vocabulary_)};
}

}  // namespace mxgpt::runtime
