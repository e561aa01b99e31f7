// Kernels against double precision, and models against their reference logits.
#include <fmt/format.h>

#include "backend/cuda/gpu_test.h"
#include "backend/cuda/host_kernels.h"
#include "eval/kernel_check.h"
#include "eval/self_check.h"
#include "support/agreement.h"

namespace mxgpt::cuda {
namespace {

using GpuReference = GpuTest;

const std::filesystem::path kFixtures = MXGPT_FIXTURES;

TEST_F(GpuReference, KernelsAreWithinTheirBounds) {
  for (const eval::KernelCheckResult& r : eval::check_device_kernels(kernel_sets(), op_runner())) {
    EXPECT_TRUE(r.passes()) << fmt::format("{} on {}: {} {:.2e}, bound {:.2e}, at {}", r.kernel,
                                           r.target, r.measure, r.error, r.bound, r.worst_shape);
  }
}

void expect_exact(const Agreement& a) {
  EXPECT_LE(a.worst_top8, 2e-3);
  EXPECT_LE(a.kld, 1e-6);
}

void expect_default(const Agreement& a) {
  EXPECT_LE(a.kld, 2e-3);
  EXPECT_GE(a.top1, 0.985);
}

TEST_F(GpuReference, GptOss) {
  expect_exact(agreement(kNano, nano(), scoring_options(backend::Precision::exact)));
  expect_default(agreement(kNano, nano(), scoring_options(backend::Precision::mixed)));
  expect_default(agreement(kNano, nano(), scoring_options(backend::Precision::mixed, 1)));
  engine::ScoringOptions f16 = scoring_options(backend::Precision::exact);
  f16.accum_type = kernels::AccumType::f16;
  expect_default(agreement(kNano, nano(), f16));
}

TEST_F(GpuReference, Gpt2) {
  const auto model = runtime::Model::open(kFixtures / "gpt2-nano");
  expect_exact(agreement(model->path(), *model, scoring_options(backend::Precision::exact)));
  expect_default(agreement(model->path(), *model, scoring_options(backend::Precision::mixed)));
}

TEST_F(GpuReference, EveryArchitecture) {
  for (const std::filesystem::directory_entry& entry :
       std::filesystem::directory_iterator(kFixtures / "architectures")) {
    SCOPED_TRACE(entry.path().filename().string());
    const auto model = runtime::Model::open(entry.path());
    for (const int64_t rows : {64, 16, 1})
      expect_exact(
          agreement(entry.path(), *model, scoring_options(backend::Precision::exact, rows)));
  }
}

TEST_F(GpuReference, SelfChecks) {
  const auto file = io::SafetensorsFile::open(kNano / "reference-logits.safetensors");
  std::vector<int32_t> text;
  for (int i = 0; std::ssize(text) < eval::kMaxSelfCheckTokens; ++i)
    text = values<int32_t>(file.tensors().at(fmt::format("{}.ids", i)));
  for (const eval::SelfCheckResult& r :
       eval::self_check({nano().architecture(), nano().config(), nano().weights("cuda"),
                         kernels::AccumType::f32, std::nullopt, "cuda"},
                        text)) {
    EXPECT_NE(r.status, eval::SelfCheckResult::Status::fail)
        << r.name << ": " << r.measured << " " << r.measure;
  }
}

TEST_F(GpuReference, GreedyTokensMatchTheReference) {
  engine::Engine engine(nano(), {.context = 4096,
                                 .max_sequences = 1,
                                 .device = "cuda",
                                 .precision = backend::Precision::exact});
  EXPECT_EQ(equal_greedy_answers(engine, kNano), 24);
}

}  // namespace
}  // namespace mxgpt::cuda
