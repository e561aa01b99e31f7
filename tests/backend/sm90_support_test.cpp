// The decision for the sm90 backend, which needs no GPU: each unsupported property gives its
// reason.
#include <gmock/gmock.h>

#include "backend/cuda/sm90/support.h"

namespace mxgpt::cuda {
namespace {

using quant::Format;
using testing::HasSubstr;

constexpr DeviceCaps kHopper{.is_local = true, .has_sm90 = true, .num_sms = 132};

/// gpt-oss-20b.
ModelTraits gpt_oss() {
  return {.hidden = 2880,
          .intermediate = 2880,
          .experts = 32,
          .top_k = 4,
          .heads = 64,
          .kv_heads = 8,
          .head_dim = 64,
          .activation = backend::ActivationKind::clamped_swiglu,
          .layers = std::vector<LayerFormats>(24, {.q = Format::bf16,
                                                   .k = Format::bf16,
                                                   .v = Format::bf16,
                                                   .o = Format::bf16,
                                                   .gate = Format::mxfp4,
                                                   .up = Format::mxfp4,
                                                   .down = Format::mxfp4}),
          .lm_head = Format::bf16};
}

std::string reason(const ModelTraits& model, const std::optional<RunTraits>& run = {}) {
  return sm90::supports(model, kHopper, run).reason;
}

TEST(Sm90Support, RunsGptOss) {
  EXPECT_EQ(reason(gpt_oss()), "");
  EXPECT_EQ(reason(gpt_oss(), RunTraits{}), "");
  EXPECT_EQ(reason(gpt_oss(), RunTraits{.kv_format = Format::q8_0}), "");
}

TEST(Sm90Support, SaysWhyNotForTheModel) {
  const auto with = [](auto change) {
    ModelTraits model = gpt_oss();
    change(model);
    return reason(model);
  };
  EXPECT_THAT(with([](ModelTraits& m) { m.experts = 0; }), HasSubstr("no experts"));
  EXPECT_THAT(with([](ModelTraits& m) { m.experts = 129; }), HasSubstr("129 experts"));
  EXPECT_THAT(with([](ModelTraits& m) { m.top_k = 8; }), HasSubstr("8 experts per token"));
  EXPECT_THAT(with([](ModelTraits& m) { m.head_dim = 128; }), HasSubstr("head_dim is 128"));
  EXPECT_THAT(with([](ModelTraits& m) { m.rope_style = backend::RopeStyle::interleaved; }),
              HasSubstr("interleaved"));
  EXPECT_THAT(with([](ModelTraits& m) { m.activation = backend::ActivationKind::silu; }),
              HasSubstr("SwiGLU"));
  EXPECT_THAT(with([](ModelTraits& m) { m.hidden = 2882; }), HasSubstr("hidden size 2882"));
  EXPECT_THAT(with([](ModelTraits& m) { m.intermediate = 32; }), HasSubstr("size 32"));
  EXPECT_THAT(with([](ModelTraits& m) { m.layers[3].up = Format::bf16; }),
              HasSubstr("must be mxfp4"));
  EXPECT_THAT(with([](ModelTraits& m) { m.layers[3].v = Format::q8_0; }), HasSubstr("differ"));
  EXPECT_THAT(with([](ModelTraits& m) { m.layers[3].o = Format::q4_k; }), HasSubstr("attention"));
  EXPECT_THAT(with([](ModelTraits& m) { m.lm_head = Format::q6_k; }), HasSubstr("LM head"));
}

TEST(Sm90Support, SaysWhyNotForTheGpuAndTheRun) {
  EXPECT_THAT(sm90::supports(gpt_oss(), {.is_local = true, .has_sm90 = false}).reason,
              HasSubstr("9.0"));
  EXPECT_THAT(reason(gpt_oss(), RunTraits{.precision = backend::Precision::exact}),
              HasSubstr("exact"));
  EXPECT_THAT(reason(gpt_oss(), RunTraits{.accum_type = kernels::AccumType::f16}),
              HasSubstr("f16"));
}

}  // namespace
}  // namespace mxgpt::cuda
