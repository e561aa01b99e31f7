// The error of a model that does not fit.
#include "backend/cuda/gpu_test.h"
#include "runtime/memory_plan.h"

namespace mxgpt::cuda {
namespace {

using GpuMemory = GpuTest;

TEST_F(GpuMemory, OutOfMemoryReportsThePlan) {
  engine::ScoringOptions tight = scoring_options(backend::Precision::mixed);
  tight.vram_budget = 1 << 20;
  try {
    engine::ScoringSession session(nano(), tight);
    FAIL() << "a model fitted into 1 MiB";
  } catch (const runtime::MemoryPlanError& error) {
    EXPECT_EQ(error.budget, tight.vram_budget);
    EXPECT_GT(error.plan.total(), tight.vram_budget);
    EXPECT_THAT(error.what(), testing::HasSubstr("VRAM_OOM"));
  }
}

}  // namespace
}  // namespace mxgpt::cuda
