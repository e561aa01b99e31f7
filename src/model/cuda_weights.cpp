#include "model/cuda_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "backend/cuda/uploader.h"
#include "base/progress.h"

namespace mxgpt {

namespace {

/// f(spec, layer) for every tensor that the model has.
template <class F>
void for_each_tensor(const Model& model, F f) {
  for (const TensorSpec& spec : model.architecture().tensors) {
    for (int64_t layer = 0; layer < spec.layers(model.config()); ++layer) {
      if (model.has(spec, layer)) f(spec, layer);
    }
  }
}

double gib(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 30);
}

std::string explain(const CudaPlan& plan, int64_t budget, int64_t free, int64_t fitting_pages) {
  std::string text = fmt::format(
      "VRAM_OOM: {:.2f} GiB are needed (weights {:.2f}, KV cache {:.2f}, workspace {:.2f}, CUDA's "
      "context {:.2f})",
      gib(plan.total()), gib(plan.weights), gib(plan.kv), gib(plan.workspace), gib(plan.context));
  if (budget) text += fmt::format(", the budget is {:.2f} GiB", gib(budget));
  text += fmt::format(", {:.2f} GiB are free on the GPU", gib(free));
  if (fitting_pages > 0)
    text += fmt::format("; a KV cache of {} tokens would fit", fitting_pages * kPageTokens);
  return text;
}

}  // namespace

int64_t CudaWeights::bytes(const Model& model) {
  cuda::Room room;
  for_each_tensor(model, [&](const TensorSpec& spec, int64_t layer) {
    const Format format =
        spec.role == Role::vector ? Format::f32 : model.stored_format(spec, layer);
    int64_t elements = 1;
    for (const int64_t d : spec.shape(model.config())) elements *= d;
    room.take<std::byte>(traits(format).row_bytes(elements));
  });
  return room.used();
}

CudaWeights::CudaWeights(const Model& model) : device_(cuda::Memory::Kind::device, bytes(model)) {
  const Config& config = model.config();
  weights_.layers.resize(config.layers);
  cuda::Room room(device_.data());
  cuda::Uploader uploader;
  const auto start = std::chrono::steady_clock::now();
  Progress progress("Loading", device_.bytes());
  for_each_tensor(model, [&](const TensorSpec& spec, int64_t layer) {
    const HostTensor host = model.load(spec, layer);
    const auto size = static_cast<int64_t>(host.bytes.size());
    auto* const device = room.take<std::byte>(size);
    uploader.copy(host.bytes, device);
    model.release(spec, layer);
    spec.in(weights_, layer) = {.format = host.format,
                                .data = device,
                                .slices = dim(config, spec.slices),
                                .rows = dim(config, spec.rows),
                                .k = dim(config, spec.k)};
    progress.advance(size);
  });
  uploader.finish();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  constexpr int64_t kLarge = 1 << 30;
  if (device_.bytes() >= kLarge) {
    const double gb = static_cast<double>(device_.bytes()) / 1e9;
    fmt::print(stderr, "Loaded {:.2f} GB onto {} in {:.2f} s, {:.1f} GB/s\n", gb,
               cuda::device_info().name, seconds.count(), gb / seconds.count());
  }
}

CudaPlan cuda_plan(const Model& model, const RunnerOptions& options) {
  CudaPlan plan = cuda_runner_plan(model.config(), options);
  plan.weights = CudaWeights::bytes(model);
  plan.context = cuda::device_info().context;
  return plan;
}

VramError::VramError(const CudaPlan& needed, int64_t vram_budget, int64_t free_bytes, int64_t pages)
    : Error("--device cuda", explain(needed, vram_budget, free_bytes, pages),
            "take a shorter --ctx, a smaller model, or a larger --vram-budget"),
      plan(needed),
      budget(vram_budget),
      free(free_bytes),
      fitting_pages(pages) {}

void require_vram(const CudaPlan& plan, const RunnerOptions& options, bool loaded) {
  // What the driver takes for an allocation beyond its size, and for kernels loaded later.
  constexpr int64_t kSlack = 64 << 20;
  const cuda::DeviceInfo info = cuda::device_info();
  int64_t room = info.free - kSlack + plan.context + (loaded ? plan.weights : 0);
  if (options.vram_budget) room = std::min(room, options.vram_budget);
  if (plan.total() <= room) return;
  const int64_t pages = *std::max_element(std::begin(options.pages), std::end(options.pages));
  const int64_t for_kv = room - (plan.total() - plan.kv);
  const int64_t fitting = plan.kv > 0 && for_kv > 0 ? pages * for_kv / plan.kv : 0;
  throw VramError(plan, options.vram_budget, info.free, fitting);
}

}  // namespace mxgpt
