#include "text/thinking.h"

#include <gmock/gmock.h>

#include <string>

namespace mxgpt {
namespace {

struct Split {
  std::string thinking, answer;
};

/// The same whatever pieces the text comes in; the last split is returned.
Split split(const std::string& text, bool open = false) {
  Split last;
  for (size_t size = 1; size <= text.size(); ++size) {
    ThinkingSplitter splitter(open);
    Split all;
    const auto add = [&](const ThinkingSplitter::Piece& piece) {
      all.thinking += piece.thinking;
      all.answer += piece.answer;
    };
    for (size_t at = 0; at < text.size(); at += size) add(splitter.push(text.substr(at, size)));
    add(splitter.finish());
    if (size > 1) {
      EXPECT_EQ(all.thinking, last.thinking) << text << " in pieces of " << size;
      EXPECT_EQ(all.answer, last.answer) << text << " in pieces of " << size;
    }
    last = all;
  }
  return last;
}

void expect(const Split& got, const std::string& thinking, const std::string& answer) {
  EXPECT_EQ(got.thinking, thinking);
  EXPECT_EQ(got.answer, answer);
}

TEST(ThinkingSplitter, PartsReasoningFromAnswer) {
  expect(split("<think>\nhm\n</think>\n\nYes\n"), "\nhm\n", "Yes\n");
  expect(split("\n<think></think>Yes"), "", "Yes");
  expect(split("hm </thin </think>\nYes", true), "hm </thin ", "Yes");
}

TEST(ThinkingSplitter, AnAnswerWithoutReasoningStays) {
  expect(split("Yes, <think> it </think> is"), "", "Yes, <think> it </think> is");
  expect(split("<thin ice>"), "", "<thin ice>");
  expect(split("<th"), "", "<th");
}

TEST(ThinkingSplitter, ReasoningThatDoesNotEndIsReasoning) {
  expect(split("<think>\nhm </th"), "\nhm </th", "");
  expect(split("<think>hm</think>\n\n"), "hm", "");
}

TEST(ThinkingSplitter, NothingIsHeldBackLongerThanNeeded) {
  ThinkingSplitter splitter(true);
  EXPECT_EQ(splitter.push("thought <").thinking, "thought ");
  EXPECT_EQ(splitter.push("b").thinking, "<b");
  EXPECT_EQ(splitter.push("</think>a").answer, "a");
  EXPECT_EQ(splitter.push("<think>").answer, "<think>");
}

}  // namespace
}  // namespace mxgpt
