#include "formats/isa.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "base/error.h"
#include "formats/format.h"

namespace mxgpt {
namespace {

/// isa() reads the variable once a process, so each case runs in one of its own. Prints the error,
/// if any.
[[noreturn]] void choose_and_exit(const char* forced) {
  ::setenv("MXGPT_ISA", forced, 1);
  try {
    const Isa chosen = isa();
    const bool dispatches =
        &kernels(Format::f32) == traits(Format::f32).kernels[static_cast<int>(chosen)];
    std::exit(dispatches ? 10 + static_cast<int>(chosen) : 2);
  } catch (const Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    std::exit(1);
  }
}

int chosen_code(Isa isa) {
  return 10 + static_cast<int>(isa);
}
Isa best() {
  return isa_supported(Isa::avx2) ? Isa::avx2 : Isa::scalar;
}

class IsaDeathTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(IsaDeathTest, BestWithoutTheVariable) {
  EXPECT_EXIT(choose_and_exit(""), testing::ExitedWithCode(chosen_code(best())), "");
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
  for (const char* wrong : {"AVX2", "avx", "avx22", " scalar", "0"}) {
    EXPECT_EXIT(choose_and_exit(wrong), testing::ExitedWithCode(1), "is not an instruction set");
  }
}

TEST(IsaTest, ScalarIsAlwaysThere) {
  EXPECT_TRUE(isa_supported(Isa::scalar));
}

}  // namespace
}  // namespace mxgpt
