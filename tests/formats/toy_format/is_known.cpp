#include <gtest/gtest.h>

#include "formats/format.h"

namespace mxgpt {
namespace {

TEST(FormatsTest, KnowTheToy) {
  EXPECT_EQ(format_of_name("toy"), Format::toy);
  EXPECT_EQ(format_of_ggml_type(1000), Format::toy);
  EXPECT_EQ(static_cast<int>(Format::toy), kFormatCount - 1);
}

}  // namespace
}  // namespace mxgpt
