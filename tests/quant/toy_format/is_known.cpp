#include <gtest/gtest.h>

#include "quant/format.h"

namespace mxgpt::quant {
namespace {

TEST(FormatsTest, KnowTheToy) {
  EXPECT_EQ(format_from_name("toy"), Format::toy);
  EXPECT_EQ(format_from_ggml_type(1000), Format::toy);
  EXPECT_EQ(static_cast<int>(Format::toy), kFormatCount - 1);
}

}  // namespace
}  // namespace mxgpt::quant
