#include "model/cpu_runner.h"

#include <algorithm>

#include "base/threads.h"
#include "model/plan.h"

namespace mxgpt {

namespace {

cpu::Limits limits_of(const Config& c, const RunnerOptions& options) {
  return {.rows = std::max(options.max_rows, options.max_logit_rows),
          .hidden = c.hidden,
          .widest = std::max(c.hidden, c.heads * c.head_dim),
          .head_dim = c.head_dim,
          .intermediate = c.intermediate,
          .experts = c.experts,
          .top_k = c.top_k};
}

/// Takes everything but the cache; the ropes are filled in by the owner of the frequencies.
StepMemory lay_out(const Config& c, const RunnerOptions& options, Arena& arena) {
  const int64_t rows = options.max_rows, heads = rows * c.heads * c.head_dim;
  const auto take = [&](int64_t count) { return arena.take<float>(count).data(); };
  StepMemory step{.x = take(rows * c.hidden),
                  .q = take(heads),
                  .attended = take(heads),
                  .logits = take(options.max_logit_rows * c.vocabulary)};
  for (size_t i = 0; i < rotaries(c); ++i) {
    const int64_t angles = rows * c.head_dim / 2;
    step.rotaries.push_back({.rope = {}, .cos = take(angles), .sin = take(angles)});
  }
  return step;
}

size_t step_bytes(const Config& c, const RunnerOptions& options) {
  Arena counted;
  lay_out(c, options, counted);
  return counted.used();
}

/// Touches every page, so that the system cannot run out of them later.
void commit(const PageMemory& memory) {
  constexpr int64_t kRange = 2 << 20, kPage = 4096;
  parallel_ranges(static_cast<int64_t>(memory.size()), kRange, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += kPage)
      *const_cast<volatile std::byte*>(memory.data() + at) = std::byte{};
  });
}

}  // namespace

size_t CpuMemory::workspace_bytes(const Config& c, const RunnerOptions& options) {
  return cpu::Backend::bytes(limits_of(c, options), options.precision) + step_bytes(c, options);
}

CpuMemory::CpuMemory(const Config& c, const RunnerOptions& options)
    : backend(limits_of(c, options), options.precision, options.observer, options.accumulate),
      arena_(step_bytes(c, options), "workspace") {
  step = lay_out(c, options, arena_);
  for (size_t i = 0; i < step.rotaries.size(); ++i)
    frequencies_.push_back(rope_frequencies(c.rope[i], c.head_dim));
  for (size_t i = 0; i < step.rotaries.size(); ++i)
    step.rotaries[i].rope = {frequencies_[i].inverse.data(), frequencies_[i].magnitude};
  for (int64_t i = 0; i < c.layers; ++i) {
    const KvGroup group = c.group(i);
    const size_t bytes = options.pages[static_cast<int>(group)] * kv_page_bytes(c, options);
    std::byte* keys = kv_.emplace_back(bytes, "the KV cache").data();
    std::byte* values = kv_.emplace_back(bytes, "the KV cache").data();
    step.kv.push_back({group, kv_format(c, options), keys, values});
  }
  if (!options.commit) return;
  for (const PageMemory& memory : kv_) commit(memory);
}

}  // namespace mxgpt
