#include "eval/activation_trace.h"

#include <gmock/gmock.h>

namespace mxgpt::eval {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;

TEST(TraceComparison, WeightsTokensEqually) {
  ActivationTrace a, b;
  const std::vector<float> x{3, 4, 300, 400}, near{3, 4.5, 300, 400}, far{3, 4, 0, 0};
  for (ActivationTrace* trace : {&a, &b}) trace->begin_step();
  a.residual(x.data(), 2, 2);
  a.residual(x.data(), 2, 2);
  b.residual(near.data(), 2, 2);
  b.residual(far.data(), 2, 2);
  const std::vector<int32_t> reference_experts{1, 2, 3, 4}, candidate_experts{2, 1, 3, 7};
  a.expert_choices(reference_experts.data(), 2, 2);
  b.expert_choices(candidate_experts.data(), 2, 2);
  TraceComparison sum;
  sum.add(a, b);
  sum.add(a, b);
  EXPECT_THAT(sum.hidden_errors(),
              ElementsAre(DoubleNear(.1 * std::sqrt(.5), 1e-12), DoubleNear(std::sqrt(.5), 1e-12)));
  ASSERT_EQ(sum.routing().size(), 1u);
  EXPECT_EQ(sum.routing()[0].top_k_overlap, .75);
  EXPECT_EQ(sum.routing()[0].same_top_expert, .5);
}

TEST(TraceComparison, DropsThePreviousStep) {
  ActivationTrace a, b;
  const std::vector<float> x{1, 1, 1, 1}, y{1, 1, 1, 1};
  TraceComparison sum;
  for (const int64_t rows : {2, 1}) {
    for (ActivationTrace* trace : {&a, &b}) {
      trace->begin_step();
      trace->residual(x.data(), rows, 2);
    }
    sum.add(a, b);
  }
  EXPECT_THAT(sum.hidden_errors(), ElementsAre(0));
}

TEST(FirstErrorJump, IsTheFirstSuddenIncrease) {
  EXPECT_EQ(first_error_jump({0, 0, .4, .5, .6}), 2u);
  EXPECT_EQ(first_error_jump({.12, .13, .14, .5, .45}), 3u);  // after a quantized embedding
  EXPECT_EQ(first_error_jump({.6, .6, .5}), 0u);              // the embedding itself
  EXPECT_EQ(first_error_jump({.12, .15, .12, .13, .18}), std::nullopt);  // quantization
  EXPECT_EQ(first_error_jump({0, .01, .02, .03, .05, .08}), std::nullopt);
  EXPECT_EQ(first_error_jump({0, 1e-6, 1e-4, 1e-3}), std::nullopt);  // rounding
  EXPECT_EQ(first_error_jump({}), std::nullopt);
  EXPECT_EQ(tap_point_name(0), "embedding");
  EXPECT_EQ(tap_point_name(7), "layer 3 attention");
  EXPECT_EQ(tap_point_name(8), "layer 3 MLP");
}

}  // namespace
}  // namespace mxgpt::eval
