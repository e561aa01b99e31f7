#include "text/stop_strings.h"

#include <gmock/gmock.h>

namespace mxgpt {
namespace {

std::string run(std::vector<std::string> stops, std::string_view text, size_t piece) {
  StopStrings filter(std::move(stops));
  std::string out;
  for (size_t at = 0; at < text.size(); at += piece) out += filter.push(text.substr(at, piece));
  return out + filter.finish();
}

TEST(StopStrings, CutsAtTheFirstWhateverThePieces) {
  for (size_t piece = 1; piece < 20; ++piece) {
    EXPECT_EQ(run({"END"}, "one ENtwo END three", piece), "one ENtwo ");
    EXPECT_EQ(run({"\n\n"}, "a\nb\n\nc", piece), "a\nb");
    EXPECT_EQ(run({""}, "nothing stops", piece), "nothing stops");
    EXPECT_EQ(run({"aab"}, "aaab", piece), "a");
    EXPECT_EQ(run({"xyz"}, "ends in xy", piece), "ends in xy");
  }
}

TEST(StopStrings, HoldsBackOnlyWhatMayBeginAStop) {
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
}  // namespace mxgpt
