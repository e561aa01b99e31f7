#include "eval/html.h"

#include <gmock/gmock.h>

#include <cmath>

namespace mxgpt::eval::html {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Html, EscapesWhatComesFromOutside) {
  EXPECT_EQ(escape("<b a='x' c=\"y\">&</b>"),
            "&lt;b a=&#39;x&#39; c=&quot;y&quot;&gt;&amp;&lt;/b&gt;");
  EXPECT_EQ(escape("a\x01\n"), "a\\x01\\n");
  Svg svg(10, 10, "\"><script>");
  svg.circle(1, 1, 1, "f0", "</title><script>");
  svg.text(1, 1, "<script>");
  EXPECT_THAT(std::move(svg).finish(), Not(HasSubstr("<script")));
}

TEST(Html, WritesNumbersForPeople) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(78290), "78,290");
  EXPECT_EQ(format_count(-1234567), "-1,234,567");
  EXPECT_EQ(format_number(0), "0");
  EXPECT_EQ(format_number(0.01234), "0.0123");
  EXPECT_EQ(format_number(-6.1e-4), "−6.10×10⁻⁴");
  EXPECT_EQ(format_number(123.4), "123");
  EXPECT_EQ(format_number(INFINITY), "–");
}

TEST(Axis, HasRoundTicksWithinItsRange) {
  const Axis linear{-0.013, 0.013, 0, 100};
  for (const auto& [value, label] : linear.ticks(8)) {
    EXPECT_LE(std::abs(value), 0.013);
    EXPECT_NEAR(std::abs(value / 0.005), std::round(std::abs(value / 0.005)), 1e-9) << label;
  }
  EXPECT_EQ(linear.ticks(8).front().second, "−0.010");
  EXPECT_EQ(linear.at(0), 50);
  const Axis decades{1e-8, 1, 0, 80, true};
  EXPECT_EQ(decades.at(1e-4), 40);
  EXPECT_EQ(decades.ticks(8).front().second, "10⁻⁸");
  EXPECT_EQ(round_up(0.17), 0.2);
  EXPECT_EQ(round_up(0), 1);
}

}  // namespace
}  // namespace mxgpt::eval::html
