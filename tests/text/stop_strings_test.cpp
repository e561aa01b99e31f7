#include "text/stop_strings.h"

#include <gmock/gmock.h>

namespace mxgpt::text {
namespace {

std::string run(std::vector<std::string> stops, std::string_view text, size_t size) {
  StopStrings filter(std::move(stops));
  std::string out;
  for (size_t at = 0; at < text.size(); at += size) out += filter.push(text.substr(at, size));
  return out + filter.finish();
}

TEST(StopStrings, CutsAtTheFirstForEveryChunkSize) {
  for (size_t size = 1; size < 20; ++size) {
    EXPECT_EQ(run({"END"}, "one ENtwo END three", size), "one ENtwo ");
    EXPECT_EQ(run({"\n\n"}, "a\nb\n\nc", size), "a\nb");
    EXPECT_EQ(run({""}, "nothing stops", size), "nothing stops");
    EXPECT_EQ(run({"aab"}, "aaab", size), "a");
    EXPECT_EQ(run({"xyz"}, "ends in xy", size), "ends in xy");
  }
}

TEST(StopStrings, HoldsBackOnlyAPossibleStart) {
  StopStrings filter({"STOP"});
  EXPECT_EQ(filter.push("go S"), "go ");
  EXPECT_EQ(filter.push("T"), "");
  EXPECT_EQ(filter.push("A"), "STA");
  EXPECT_EQ(filter.push("STOP and more"), "");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.push("even more"), "");
  EXPECT_EQ(filter.finish(), "");
}

}  // namespace
}  // namespace mxgpt::text
