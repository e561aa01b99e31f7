#include "base/progress.h"

#include <gmock/gmock.h>

namespace mxgpt {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr uint64_t kGB = 1'000'000'000;

TEST(ProgressLine, SaysHowFarHowFastHowLong) {
  EXPECT_EQ(format_progress("Hashing", 3 * kGB, 12 * kGB, 2.0, 0),
            "Hashing 3.00 of 12.00 GB, 1.50 GB/s, 6 s left");
  EXPECT_THAT(format_progress("Hashing", kGB, 101 * kGB, 1.0, 0), HasSubstr("1:40 min left"));
  EXPECT_THAT(format_progress("Hashing", kGB, 7324 * kGB, 1.0, 0), HasSubstr("2:02 h left"));
}

TEST(ProgressLine, CountsOtherThingsThanBytes) {
  EXPECT_EQ(format_progress("Scoring", 300, 900, 1.0, 0, "tokens"),
            "Scoring 300 of 900 tokens, 300 tokens/s, 2 s left");
}

TEST(ProgressLine, SurvivesTheEdges) {
  EXPECT_THAT(format_progress("x", 0, 0, 0.0, 80), Not(HasSubstr("left")));
  EXPECT_THAT(format_progress("x", 0, kGB, 0.0, 80), Not(HasSubstr("left")));
  EXPECT_THAT(format_progress("x", 5, 5, 1.0, 80), Not(HasSubstr("left")));
  EXPECT_THAT(format_progress("x", 1, UINT64_MAX, 1000.0, 200), HasSubstr("99:59 h left"));
}

TEST(ProgressLine, BarTakesTheRoomThatIsThere) {
  EXPECT_THAT(format_progress("Hashing", kGB, 2 * kGB, 1.0, 60), Not(HasSubstr("━")));
  const std::string half = format_progress("Hashing", kGB, 2 * kGB, 1.0, 200);
  EXPECT_THAT(half, HasSubstr("━─"));
  int filled = 0;
  for (size_t at = 0; (at = half.find("━", at)) != half.npos; ++at) ++filled;
  EXPECT_EQ(filled, 20);
}

TEST(Progress, TellsWhoListens) {
  std::vector<std::string> told;
  set_progress_listener([&](const std::string& label, uint64_t done, uint64_t total) {
    told.push_back(label + " " + std::to_string(done) + "/" + std::to_string(total));
  });
  {
    Progress progress("Reading", 10);
    progress.advance(4);
    progress.advance(6);
  }
  set_progress_listener({});
  Progress("Hashing", 3).advance(3);
  EXPECT_THAT(told, testing::ElementsAre("Reading 0/10", "Reading 4/10", "Reading 10/10"));
}

}  // namespace
}  // namespace mxgpt
