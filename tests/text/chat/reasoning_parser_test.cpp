#include "text/chat/reasoning_parser.h"

#include <gmock/gmock.h>

#include <string>

namespace mxgpt::text {
namespace {

struct Split {
  std::string thinking, answer;
};

/// Parses `text` in chunks of every size and checks that the result does not depend on it.
Split split(const std::string& text, bool open = false) {
  Split last;
  for (size_t size = 1; size <= text.size(); ++size) {
    ReasoningParser parser(open);
    Split all;
    const auto add = [&](const ReasoningParser::Delta& delta) {
      all.thinking += delta.reasoning;
      all.answer += delta.content;
    };
    for (size_t at = 0; at < text.size(); at += size) add(parser.push(text.substr(at, size)));
    add(parser.finish());
    if (size > 1) {
      EXPECT_EQ(all.thinking, last.thinking) << text << " in chunks of " << size;
      EXPECT_EQ(all.answer, last.answer) << text << " in chunks of " << size;
    }
    last = all;
  }
  return last;
}

void expect(const Split& got, const std::string& thinking, const std::string& answer) {
  EXPECT_EQ(got.thinking, thinking);
  EXPECT_EQ(got.answer, answer);
}

TEST(ReasoningParser, SeparatesReasoningFromContent) {
  expect(split("<think>\nhm\n</think>\n\nYes\n"), "\nhm\n", "Yes\n");
  expect(split("\n<think></think>Yes"), "", "Yes");
  expect(split("hm </thin </think>\nYes", true), "hm </thin ", "Yes");
}

TEST(ReasoningParser, ContentWithoutReasoningIsUnchanged) {
  expect(split("Yes, <think> it </think> is"), "", "Yes, <think> it </think> is");
  expect(split("<thin ice>"), "", "<thin ice>");
  expect(split("<th"), "", "<th");
}

TEST(ReasoningParser, UnterminatedReasoningIsReasoning) {
  expect(split("<think>\nhm </th"), "\nhm </th", "");
  expect(split("<think>hm</think>\n\n"), "hm", "");
}

TEST(ReasoningParser, NothingIsHeldBackLongerThanNeeded) {
  ReasoningParser parser(true);
  EXPECT_EQ(parser.push("thought <").reasoning, "thought ");
  EXPECT_EQ(parser.push("b").reasoning, "<b");
  EXPECT_EQ(parser.push("</think>a").content, "a");
  EXPECT_EQ(parser.push("<think>").content, "<think>");
}

}  // namespace
}  // namespace mxgpt::text
