// Compares the shipped model, and one model per architecture, with transformers in float32,
// teacher-forced. The bounds are fixed.
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "model/convert.h"
#include "support/agreement.h"
#include "support/nano.h"

namespace mxgpt::engine {
namespace {

Agreement agreement(const std::filesystem::path& directory, backend::Precision precision,
                    int64_t rows, kernels::AccumType accumulate = kernels::AccumType::f32) {
  return mxgpt::agreement(
      directory, *runtime::Model::open(directory),
      {.precision = precision, .accum_type = accumulate, .max_batched_tokens = rows});
}

TEST(Reference, ExactPrecisionInPrefill) {
  const Agreement a = agreement(kNano, backend::Precision::exact, 256);
  EXPECT_GT(a.positions, 5000);
  EXPECT_LE(a.worst_top8, 2e-3);
  EXPECT_LE(a.kld, 1e-6);
}

const std::filesystem::path kFixtures = MXGPT_FIXTURES;

/// Small checkpoints with random weights, written by transformers (tests/data/README.md).
class Architectures : public testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path checkpoint() const { return kFixtures / "architectures" / GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Checkpoints, Architectures,
                         testing::Values("llama3-rope", "mistral-window", "qwen2", "qwen3", "phi3",
                                         "gemma3", "gpt-oss-bf16-layout"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(Architectures, ExactPrecisionInPrefillAndTokenByToken) {
  for (const int64_t rows : {16, 1}) {
    const Agreement a = agreement(checkpoint(), backend::Precision::exact, rows);
    EXPECT_EQ(a.positions, 112 + 19 + 84 + 101);
    EXPECT_LE(a.worst_top8, 2e-3);
    EXPECT_LE(a.last_logits, 2e-3);
    EXPECT_LE(a.kld, 1e-6);
  }
}

TEST_P(Architectures, GgufConversionMatches) {
  const auto source = runtime::Model::open(checkpoint());
  const std::filesystem::path path =
      testing::TempDir() + fmt::format("mxgpt-architecture-{}.gguf", ::getpid());
  const auto plan = model::plan_tensors(*source, model::dense_format_rule(quant::Format::bf16));
  io::GgufWriter writer(path);
  model::write_model_metadata(*source, model::gguf_file_type(plan), "", writer);
  model::write_tensors(*source, plan, {}, writer, [](uint64_t) {});
  writer.finish();
  const Agreement a =
      mxgpt::agreement(checkpoint(), *runtime::Model::open(path),
                       {.precision = backend::Precision::exact, .max_batched_tokens = 16});
  std::filesystem::remove(path);
  EXPECT_LE(a.worst_top8, 2e-3);
  EXPECT_LE(a.last_logits, 2e-3);
}

TEST(Reference, Gpt2) {
  const Agreement exact = agreement(kFixtures / "gpt2-nano", backend::Precision::exact, 256);
  EXPECT_LE(exact.worst_top8, 2e-3);
  EXPECT_LE(exact.kld, 1e-6);
  const Agreement standard = agreement(kFixtures / "gpt2-nano", backend::Precision::mixed, 256);
  EXPECT_LE(standard.kld, 2e-3);
  EXPECT_GE(standard.top1, 0.985);
}

TEST(Reference, MixedPrecision) {
  const Agreement a = agreement(kNano, backend::Precision::mixed, 256);
  EXPECT_LE(a.kld, 2e-3);
  EXPECT_GE(a.top1, 0.985);
}

/// f16 accumulation with f32 activations stays within the bounds of the default precision.
TEST(Reference, F16Accumulation) {
  const Agreement a = agreement(kNano, backend::Precision::exact, 256, kernels::AccumType::f16);
  EXPECT_GT(a.worst_top8, 2e-3) << "they are not f16";
  EXPECT_LE(a.kld, 2e-3);
  EXPECT_GE(a.top1, 0.985);
}

}  // namespace
}  // namespace mxgpt::engine
