#include "model/cuda_runner.h"

#include <algorithm>

#include "backend/cuda/layouts.h"
#include "base/error.h"
#include "model/plan.h"

namespace mxgpt {

namespace {

cuda::Limits limits_of(const Config& c, const RunnerOptions& options) {
  const int64_t pages = options.pages[static_cast<int>(KvGroup::full)];
  return {.rows = std::max(options.max_rows, options.max_logit_rows),
          .sequences = options.max_sequences,
          .context = pages ? std::min(c.context, pages * kPageTokens) : c.context,
          .vocabulary = c.vocabulary,
          .hidden = c.hidden,
          .widest = std::max(c.hidden, c.heads * c.head_dim),
          .intermediate = c.intermediate,
          .experts = c.experts,
          .top_k = c.top_k,
          .heads = c.heads,
          .head_dim = c.head_dim};
}

/// Takes everything but the backend's own; the ropes' frequencies are not yet there.
StepMemory lay_out(const Config& c, const RunnerOptions& options, cuda::Room& room) {
  const int64_t rows = options.max_rows, half = c.head_dim / 2;
  StepMemory step{.x = room.take<float>(rows * c.hidden),
                  .q = room.take<float>(rows * c.heads * c.head_dim),
                  .attended = room.take<float>(rows * c.heads * c.head_dim),
                  .logits = room.take<float>(options.max_logit_rows * c.vocabulary)};
  for (size_t i = 0; i < rotaries(c); ++i) {
    step.rotaries.push_back({.rope = {.inverse_frequency = room.take<float>(half)},
                             .cos = room.take<float>(rows * half),
                             .sin = room.take<float>(rows * half)});
  }
  return step;
}

void lay_out_kv(const Config& c, const RunnerOptions& options, cuda::Room& room, StepMemory& step) {
  for (int64_t i = 0; i < c.layers; ++i) {
    const KvGroup group = c.group(i);
    const int64_t bytes = options.pages[static_cast<int>(group)] * kv_page_bytes(c, options);
    auto* keys = room.take<std::byte>(bytes);
    auto* values = room.take<std::byte>(bytes);
    step.kv.push_back({group, kv_format(c, options), keys, values});
  }
}

bool is_fast(const Config& c, const RunnerOptions& options) {
  return options.precision == Precision::standard && options.accumulate == Accumulate::f32 &&
         c.experts > 0 && cuda::target().fast;
}

int64_t device_bytes(const Config& c, const RunnerOptions& options) {
  if (options.observer)
    throw Error("--device cuda", "what looks into a step needs the CPU", "take --device cpu");
  cuda::device_info();  // throws where there is none
  const CudaPlan plan = cuda_runner_plan(c, options);
  return plan.kv + plan.workspace;
}

}  // namespace

CudaPlan cuda_runner_plan(const Config& c, const RunnerOptions& options) {
  cuda::Room room;
  StepMemory step = lay_out(c, options, room);
  const cuda::Workspace backend(limits_of(c, options), room, cuda::target(), is_fast(c, options));
  CudaPlan plan{.workspace = room.used()};
  lay_out_kv(c, options, room, step);
  plan.kv = room.used() - plan.workspace;
  return plan;
}

CudaMemory::CudaMemory(const Config& c, const RunnerOptions& options)
    : vocabulary_(c.vocabulary),
      device_(cuda::Memory::Kind::device, device_bytes(c, options)),
      logits_(cuda::Memory::Kind::pinned,
              options.max_logit_rows * c.vocabulary * static_cast<int64_t>(sizeof(float))),
      room_(device_.data()),
      step(lay_out(c, options, room_)),
      backend(limits_of(c, options), room_, options.accumulate, is_fast(c, options)) {
  lay_out_kv(c, options, room_, step);
  // Whole pages are multiplied, with weights of 0 where nothing was stored, which must be numbers.
  for (const KvLayer& kv : step.kv) {
    const int64_t bytes = options.pages[static_cast<int>(kv.group)] * kv_page_bytes(c, options);
    backend.stream().zero(kv.keys, bytes);
    backend.stream().zero(kv.values, bytes);
  }
  for (size_t i = 0; i < step.rotaries.size(); ++i) {
    const RopeFrequencies frequencies = rope_frequencies(c.rope[i], c.head_dim);
    Rope& rope = step.rotaries[i].rope;
    rope.magnitude = frequencies.magnitude;
    backend.stream().copy(const_cast<float*>(rope.inverse_frequency), frequencies.inverse.data(),
                          std::ssize(frequencies.inverse) * static_cast<int64_t>(sizeof(float)));
    backend.stream().wait();
  }
}

std::span<const float> CudaMemory::run(const Batch& batch, const std::function<void()>& forward) {
  auto* logits = reinterpret_cast<float*>(logits_.data());
  const int64_t count = std::ssize(batch.logit_rows) * vocabulary_;
  cuda::Stream& stream = backend.stream();
  const auto work = [&] {
    forward();
    if (count) stream.copy(logits, step.logits, count * static_cast<int64_t>(sizeof(float)));
  };
  const cuda::Shape& shape = backend.place(batch);
  try {
    take(shape, work);
    stream.wait();
    cuda::read_profile_clocks();
  } catch (...) {
    // What was enqueued may still read the batch that the next step writes. An error of the GPU's
    // own comes again with the next step, and is told then.
    try {
      stream.wait();
    } catch (const Error&) {
    }
    throw;
  }
  return {logits, static_cast<size_t>(count)};
}

void CudaMemory::take(const cuda::Shape& shape, const std::function<void()>& work) {
  if (!shape.recurs() || cuda::is_profiling()) return work();
  const auto met = graphs_.find(shape);
  if (met == graphs_.end()) {
    // The first step of a shape is taken as it comes, so that its kernels are loaded before any is
    // recorded. All are forgotten when they are many: those in use come back after two steps.
    if (graphs_.size() >= kMostGraphs) graphs_.clear();
    graphs_.try_emplace(shape);
    return work();
  }
  try {
    if (!met->second) met->second.emplace(backend.stream(), work);
    return met->second->launch(backend.stream());
  } catch (const cuda::OutOfMemory&) {
    graphs_.clear();  // a convenience, which is not worth an answer
  }
  work();
}

}  // namespace mxgpt
