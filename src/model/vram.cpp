#include "model/vram.h"

#include <fmt/format.h>

#include "backend/batch.h"

namespace mxgpt {

namespace {

double gib(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 30);
}

std::string explain(const CudaPlan& plan, int64_t budget, int64_t free, int64_t fitting_pages) {
  std::string text = fmt::format(
      "{:.2f} GiB are needed (weights {:.2f}, KV cache {:.2f}, workspace {:.2f}, CUDA's "
      "context {:.2f})",
      gib(plan.total()), gib(plan.weights), gib(plan.kv), gib(plan.workspace), gib(plan.context));
  if (plan.host) text += fmt::format(", {:.2f} GiB more in host memory", gib(plan.host));
  if (budget) text += fmt::format(", the budget is {:.2f} GiB", gib(budget));
  text += fmt::format(", {:.2f} GiB are free on the GPU", gib(free));
  if (fitting_pages > 0)
    text += fmt::format("; a KV cache of {} tokens would fit", fitting_pages * kPageTokens);
  return text;
}

}  // namespace

VramError::VramError(const CudaPlan& needed_plan, int64_t vram_budget, int64_t free_bytes,
                     int64_t room, int64_t pages)
    : OutOfMemory("VRAM_OOM", explain(needed_plan, vram_budget, free_bytes, pages),
                  "take a shorter --ctx, a smaller model, or a larger --vram-budget",
                  needed_plan.total(), room),
      plan(needed_plan),
      budget(vram_budget),
      free(free_bytes),
      fitting_pages(pages) {}

}  // namespace mxgpt
