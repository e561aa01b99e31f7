#include "runtime/memory_plan.h"

#include <fmt/format.h>

#include "backend/batch.h"

namespace mxgpt::runtime {

namespace {

double gib(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 30);
}

std::string explain(const MemoryPlan& plan, int64_t budget, int64_t free, int64_t max_pages) {
  std::string text = fmt::format(
      "{:.2f} GiB are needed (weights {:.2f}, KV cache {:.2f}, workspace {:.2f}, "
      "driver {:.2f})",
      gib(plan.total()), gib(plan.weights), gib(plan.kv_cache), gib(plan.workspace),
      gib(plan.runtime));
  if (plan.host) text += fmt::format(", {:.2f} GiB more in host memory", gib(plan.host));
  if (budget) text += fmt::format(", the budget is {:.2f} GiB", gib(budget));
  text += fmt::format(", {:.2f} GiB are free on the device", gib(free));
  if (max_pages > 0)
    text += fmt::format("; a KV cache of {} tokens would fit", max_pages * backend::kPageTokens);
  return text;
}

}  // namespace

MemoryPlanError::MemoryPlanError(const MemoryPlan& needed_plan, int64_t vram_budget,
                                 int64_t free_bytes, int64_t limit, int64_t pages)
    : OutOfDeviceMemory("VRAM_OOM", explain(needed_plan, vram_budget, free_bytes, pages),
                        "use a shorter context, a smaller model or a larger memory budget",
                        needed_plan.total(), limit),
      plan(needed_plan),
      budget(vram_budget),
      free(free_bytes),
      max_pages(pages) {}

}  // namespace mxgpt::runtime
