#include "kernels/cpu/isa.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "eval/random_weights.h"
#include "kernels/cpu/gemm.h"
#include "quant/format.h"

namespace mxgpt::kernels {
namespace {

/// isa() reads the variable once per process, so each case runs in its own. Prints any error.
[[noreturn]] void choose_and_exit(const char* forced) {
  ::setenv("MXGPT_ISA", forced, 1);
  try {
    const Isa chosen = isa();
    const bool dispatches =
        &gemm_kernels(quant::Format::f32) == &gemm_kernels(quant::Format::f32, chosen);
    std::exit(dispatches ? 10 + static_cast<int>(chosen) : 2);
  } catch (const Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    std::exit(1);
  }
}

int chosen_code(Isa isa) {
  return 10 + static_cast<int>(isa);
}
Isa best_isa() {
  return eval::supported_isas().back();
}

class IsaDeathTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(IsaDeathTest, BestWithoutTheVariable) {
  EXPECT_EXIT(choose_and_exit(""), testing::ExitedWithCode(chosen_code(best_isa())), "");
}

TEST_F(IsaDeathTest, EachNameForcesItsOwn) {
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    if (isa_supported(isa)) {
      EXPECT_EXIT(choose_and_exit(isa_name(isa)), testing::ExitedWithCode(chosen_code(isa)), "");
    } else {
      EXPECT_EXIT(choose_and_exit(isa_name(isa)), testing::ExitedWithCode(1),
                  "this processor has no");
    }
  }
}

TEST_F(IsaDeathTest, AnythingElseIsAnError) {
  for (const char* wrong : {"AVX2", "avx", "avx22", "avx51", " scalar", "0"}) {
    EXPECT_EXIT(choose_and_exit(wrong), testing::ExitedWithCode(1), "is not an instruction set");
  }
}

TEST(IsaTest, ScalarIsAlwaysThere) {
  EXPECT_TRUE(isa_supported(Isa::scalar));
}

/// A processor with one instruction set has those before it, so the last is the best.
TEST(IsaTest, TheyAreInRisingOrder) {
  bool before = true;
  for (int i = 0; i < kIsaCount; ++i) {
    const bool now = isa_supported(static_cast<Isa>(i));
    EXPECT_TRUE(before || !now) << isa_name(static_cast<Isa>(i));
    before = now;
  }
}

/// MXGPT_REQUIRE_ISA names an instruction set that the processor must have, so that a CI machine
/// cannot skip the tests of its kernels unnoticed.
class PresentIsa : public testing::TestWithParam<int> {};

TEST_P(PresentIsa, HasKernelsForEveryFormat) {
  const Isa isa = static_cast<Isa>(GetParam());
  if (!isa_supported(isa)) {
    const char* required = std::getenv("MXGPT_REQUIRE_ISA");
    ASSERT_TRUE(!required || std::string_view(required) != isa_name(isa))
        << "this processor has no " << isa_name(isa);
    GTEST_SKIP() << "this processor has no " << isa_name(isa) << ": its kernels are not tested";
  }
  for (int i = 0; i < quant::kFormatCount; ++i)
    EXPECT_NE(gemm_kernels(static_cast<quant::Format>(i), isa).matmul_f32, nullptr) << i;
}

INSTANTIATE_TEST_SUITE_P(Isas, PresentIsa, testing::Range(0, kIsaCount),
                         [](const auto& info) { return isa_name(static_cast<Isa>(info.param)); });

}  // namespace
}  // namespace mxgpt::kernels
