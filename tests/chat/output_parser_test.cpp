#include "chat/output_parser.h"

#include <gmock/gmock.h>

#include "support/small_tokenizer.h"

namespace mxgpt::chat {
namespace {

std::shared_ptr<const harmony::HarmonyEncoding> encoding() {
  static const auto one =
      std::make_shared<const harmony::HarmonyEncoding>(harmony::small_tokenizer());
  return one;
}

struct ParsedOutput {
  std::string reasoning, content, calls;
  bool ended = false;
};

/// Parses the first `max_tokens` tokens of `text`.
ParsedOutput parse_output(const std::string& text, std::vector<std::string> stops = {},
                          size_t max_tokens = SIZE_MAX) {
  const auto parser = make_harmony_parser(encoding(), std::move(stops));
  ParsedOutput out;
  std::vector<OutputDelta> deltas;
  for (const text::TokenId token : harmony::small_tokenizer()->encode(text)) {
    if (max_tokens-- == 0) break;
    if (parser->push(token, deltas)) continue;
    out.ended = true;
    break;
  }
  parser->finish(deltas);
  for (const OutputDelta& delta : deltas) {
    switch (delta.kind) {
      case OutputDelta::Kind::reasoning:
        out.reasoning += delta.text;
        break;
      case OutputDelta::Kind::content:
        out.content += delta.text;
        break;
      case OutputDelta::Kind::tool_call:
        out.calls += "[" + delta.text + "]";
        break;
      case OutputDelta::Kind::arguments:
        out.calls += delta.text;
        break;
    }
  }
  return out;
}

TEST(HarmonyOutputParser, SplitsReasoningContentAndCalls) {
  const ParsedOutput final_answer = parse_output(
      "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Oslo."
      "<|return|>");
  EXPECT_EQ(final_answer.reasoning, "Hm.");
  EXPECT_EQ(final_answer.content, "Oslo.");
  EXPECT_TRUE(final_answer.ended);
  const ParsedOutput call = parse_output(
      "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant "
      "to=functions.f<|channel|>commentary"
      " <|constrain|>json<|message|>{\"x\":1}<|call|>");
  EXPECT_EQ(call.content, "I look.");
  EXPECT_EQ(call.calls, "[f]{\"x\":1}");
}

TEST(HarmonyOutputParser, MalformedOutputLosesNoText) {
  EXPECT_EQ(parse_output("Just text").content, "Just text");
  EXPECT_EQ(parse_output("<|channel|>final<|message|>A<|end|><|return|>").content, "A");
  EXPECT_EQ(parse_output("<|start|><|start|>assistant<|channel|>final<|message|>B").content, "B");
  EXPECT_EQ(parse_output("<|channel|><|message|>C").content, "C");
  EXPECT_EQ(parse_output("<|channel|>commentary to=functions.f<|message|>{\"x\"").calls,
            "[f]{\"x\"");
}

TEST(HarmonyOutputParser, UserMessageAfterTheAnswerIsDropped) {
  EXPECT_EQ(parse_output("<|channel|>final<|message|>E<|end|><|start|>user<|message|>And?").content,
            "E");
}

// A token budget may end the output anywhere; what it leaves of a header is not content.
TEST(HarmonyOutputParser, CutHeaderGivesNothing) {
  const std::string header = "<|channel|>commentary to=functions.f <|constrain|>json";
  const std::string recipient_first = " to=functions.f<|channel|>commentary <|constrain|>json";
  for (const std::string& text : {header, recipient_first}) {
    for (size_t tokens = 1; tokens < 60; ++tokens) {
      const ParsedOutput cut = parse_output(text, {}, tokens);
      EXPECT_EQ(cut.content, "") << text << " cut after " << tokens;
      EXPECT_EQ(cut.reasoning, "") << tokens;
      EXPECT_EQ(cut.calls, "") << tokens;
    }
  }
  const std::string second =
      "<|channel|>analysis<|message|>D<|end|><|start|>assistant<|channel|>final";
  for (size_t tokens = 1; tokens < 60; ++tokens) {
    const ParsedOutput cut = parse_output(second, {}, tokens);
    EXPECT_EQ(cut.content, "") << tokens;
    EXPECT_THAT(cut.reasoning, testing::AnyOf("", "D")) << tokens;
  }
  EXPECT_EQ(parse_output(second).reasoning, "D");
}

TEST(HarmonyOutputParser, StopStringsApplyToContentOnly) {
  const std::string text =
      "<|channel|>analysis<|message|>one STOP "
      "two<|end|><|start|>assistant<|channel|>final<|message|>"
      "three STOP four<|return|>";
  const ParsedOutput stopped = parse_output(text, {"STOP"});
  EXPECT_EQ(stopped.reasoning, "one STOP two");
  EXPECT_EQ(stopped.content, "three ");
  EXPECT_TRUE(stopped.ended);
  EXPECT_EQ(parse_output(text, {"four and more"}).content, "three STOP four");
}

}  // namespace
}  // namespace mxgpt::chat
