#include "text/chat/harmony/parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "support/message_of.h"
#include "support/small_tokenizer.h"

namespace mxgpt::harmony {
namespace {

using Mode = HarmonyParser::Mode;

std::shared_ptr<const HarmonyEncoding> small_encoding() {
  static const auto encoding = std::make_shared<const HarmonyEncoding>(small_tokenizer());
  return encoding;
}

std::vector<text::TokenId> tokens_of(std::string_view text) {
  return small_tokenizer()->encode(text, {.parse_special = true});
}

// A message as "assistant:name|channel|recipient|content type|text|end", with "-" for absent
// fields.
std::string describe(const ParsedMessage& parsed) {
  const auto field = [](const std::optional<std::string>& value) { return value ? *value : "-"; };
  static constexpr const char* kEnds[] = {"open", "end", "return", "call", "next", "truncated"};
  const Message& m = parsed.message;
  return fmt::format("{}{}|{}|{}|{}|{}|{}", role_name(m.role), m.name ? ":" + *m.name : "",
                     field(m.channel), field(m.recipient), field(m.content_type), m.text(),
                     kEnds[static_cast<size_t>(parsed.end)]);
}

std::vector<std::string> parse(std::string_view text, Mode mode = Mode::kTolerant) {
  HarmonyParser parser(small_encoding(), mode);
  for (const text::TokenId token : tokens_of(text)) parser.feed(token);
  parser.finish();
  std::vector<std::string> out;
  for (const ParsedMessage& message : parser.messages()) out.push_back(describe(message));
  return out;
}

std::string strict_error(std::string_view text) {
  return message_of([&] { parse(text, Mode::kStrict); });
}

using Messages = std::vector<std::string>;

TEST(HarmonyParser, ReadsHeadersInEveryOrder) {
  for (const Mode mode : {Mode::kStrict, Mode::kTolerant}) {
    const auto one = [mode](std::string_view text) { return parse(text, mode).at(0); };
    EXPECT_EQ(one("<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>"),
              "assistant|commentary|functions.f|<|constrain|>json|{}|call");
    EXPECT_EQ(one(" to=functions.f<|channel|>commentary<|constrain|>json<|message|>{}<|call|>"),
              "assistant|commentary|functions.f|<|constrain|>json|{}|call");
    EXPECT_EQ(one("<|channel|>commentary to=python code<|message|>1<|call|>"),
              "assistant|commentary|python|code|1|call");
    EXPECT_EQ(one("<|channel|>commentary functions.f json<|message|>{}<|call|>"),
              "assistant|commentary|functions.f|json|{}|call");
    EXPECT_EQ(one("<|start|>functions.f to=assistant<|channel|>commentary<|message|>{}<|end|>"),
              "tool:functions.f|commentary|assistant|-|{}|end");
    EXPECT_EQ(one("<|start|>user:eve<|message|>hi<|end|>"), "user:eve|-|-|-|hi|end");
    EXPECT_EQ(one("assistant<|channel|>final<|message|>hi<|return|>"),
              "assistant|final|-|-|hi|return");
    EXPECT_EQ(one("<|channel|>final<|message|>cut"), "assistant|final|-|-|cut|truncated");
  }
}

struct BadInput {
  const char* text;
  const char* strict;  // part of strict mode's error; null if accepted, as by openai-harmony
  Messages tolerant;
};

void expect(const BadInput& bad) {
  SCOPED_TRACE(bad.text);
  EXPECT_EQ(parse(bad.text), bad.tolerant);
  if (bad.strict) {
    EXPECT_THAT(strict_error(bad.text), testing::HasSubstr(bad.strict));
  } else {
    EXPECT_EQ(strict_error(bad.text), "no error");
  }
}

TEST(HarmonyParser, DoubledStart) {
  expect({"<|start|><|start|>assistant<|channel|>final<|message|>hi<|return|>",
          "inside a message header",
          {"assistant|final|-|-|hi|return"}});
  expect({"<|start|>assistant<|start|>assistant<|channel|>final<|message|>hi<|return|>",
          "inside a message header",
          {"assistant|final|-|-|hi|return"}});
}

TEST(HarmonyParser, StartInsideContent) {
  expect(
      {"<|channel|>analysis<|message|>so<|start|>assistant<|channel|>final<|message|>hi<|return|>",
       nullptr,
       {"assistant|analysis|-|-|so|next", "assistant|final|-|-|hi|return"}});
  expect({"<|channel|>analysis<|message|>so<|channel|>final<|message|>hi<|return|>",
          nullptr,
          {"assistant|analysis|-|-|so|next", "assistant|final|-|-|hi|return"}});
}

TEST(HarmonyParser, EmptyChannel) {
  expect({"<|channel|><|message|>hi<|return|>", "channel is empty", {"assistant|-|-|-|hi|return"}});
  expect(
      {"<|channel|> <|message|>hi<|return|>", "channel is empty", {"assistant|-|-|-|hi|return"}});
}

TEST(HarmonyParser, InvalidChannels) {
  expect({"<|channel|>?!<|message|>hi<|end|>", nullptr, {"assistant|-|-|-|hi|end"}});
  expect(
      {"<|channel|>commentary?<|message|>hi<|end|>", nullptr, {"assistant|commentary|-|-|hi|end"}});
  expect({"<|channel|>commentary 2?<|message|>hi<|end|>",
          nullptr,
          {"assistant|commentary|-|-|hi|end"}});
  expect({"<|channel|>commentary to=assistant<|channel|>commentary?<|message|>hi<|end|>",
          "two channels",
          {"assistant|commentary|assistant|-|hi|end"}});
}

TEST(HarmonyParser, EndFollowedByReturn) {
  expect({"<|channel|>final<|message|>hi<|end|><|return|>",
          "expected <|start|> at the start of a message",
          {"assistant|final|-|-|hi|end"}});
  expect({"<|channel|>final<|message|>hi<|return|><|call|><|end|><|endoftext|>",
          "expected <|start|> at the start of a message",
          {"assistant|final|-|-|hi|return"}});
}

TEST(HarmonyParser, MissingMessageToken) {
  expect({"<|channel|>final Hello there.<|return|>",
          "inside a message header",
          {"assistant|final|-|-|Hello there.|return"}});
  expect({"<|channel|>finalHello<|return|>",
          "inside a message header",
          {"assistant|final|-|-|Hello|return"}});
  expect({"<|channel|>finally, it ends<|return|>",
          "inside a message header",
          {"assistant|-|-|-|finally, it ends|return"}});
  expect({"<|channel|>commentary to=functions.f <|constrain|>json{\"a\": 1}<|call|>",
          "inside a message header",
          {"assistant|commentary|functions.f|<|constrain|>json|{\"a\": 1}|call"}});
  expect({"<|channel|>commentary to=functions.f json{}<|call|>",
          "inside a message header",
          {"assistant|commentary|functions.f|json|{}|call"}});
  expect({"<|channel|>analysis so<|start|>assistant<|channel|>final<|message|>hi<|return|>",
          "inside a message header",
          {"assistant|analysis|-|-|so|next", "assistant|final|-|-|hi|return"}});
}

TEST(HarmonyParser, MaxTokensInsideAHeader) {
  const std::string call = "<|channel|>commentary to=functions.f <|constrain|>json";
  const auto tokens = tokens_of(call);
  for (size_t length = 0; length <= tokens.size(); ++length) {
    HarmonyParser strict(small_encoding(), Mode::kStrict);
    HarmonyParser tolerant(small_encoding());
    for (size_t i = 0; i < length; ++i) {
      strict.feed(tokens[i]);
      tolerant.feed(tokens[i]);
    }
    EXPECT_THROW(strict.finish(), Error);
    tolerant.finish();
    EXPECT_LE(tolerant.messages().size(), 1u);
    for (const auto& parsed : tolerant.messages()) {
      EXPECT_EQ(parsed.end, MessageEnd::kTruncated);
      EXPECT_FALSE(parsed.complete());
    }
  }
  EXPECT_EQ(parse(call), Messages{"assistant|commentary|functions.f|<|constrain|>json||truncated"});
  EXPECT_EQ(parse("<|channel|>final<|message|>a<|end|><|start|>assis"),
            Messages({"assistant|final|-|-|a|end", "assistant|-|-|-|assis|truncated"}));
  EXPECT_EQ(parse("<|channel|>final<|message|>a<|end|><|start|>assistant"),
            Messages{"assistant|final|-|-|a|end"});
}

TEST(HarmonyParser, RefusalWithoutChannel) {
  expect({"I'm sorry, but I can't help with that.<|return|>",
          "inside a message header",
          {"assistant|-|-|-|I'm sorry, but I can't help with that.|return"}});
  expect({"<|message|>I can't help.<|return|>", nullptr, {"assistant|-|-|-|I can't help.|return"}});
  // Truncated by max_tokens.
  expect({"I'm sorry, but",
          "end inside a message header",
          {"assistant|-|-|-|I'm sorry, but|truncated"}});
}

TEST(HarmonyParser, StrayTextBetweenMessages) {
  expect({"<|channel|>analysis<|message|>so<|end|>assistant<|channel|>final<|message|>hi<|return|>",
          "expected <|start|> at the start of a message",
          {"assistant|analysis|-|-|so|end", "assistant|final|-|-|hi|return"}});
  expect({"<|channel|>analysis<|message|>so<|end|><|channel|>final<|message|>hi<|return|>\n",
          "expected <|start|> at the start of a message",
          {"assistant|analysis|-|-|so|end", "assistant|final|-|-|hi|return"}});
  expect({"<|channel|>analysis<|message|>so<|end|>The answer is 4.<|return|>",
          "expected <|start|> at the start of a message",
          {"assistant|analysis|-|-|so|end", "assistant|-|-|-|The answer is 4.|return"}});
}

TEST(HarmonyParser, OddHeaders) {
  expect({"<|start|>assistantassistant<|channel|>final<|message|>hi<|return|>",
          "role 'assistantassistant'",
          {"assistant|final|-|-|hi|return"}});
  expect({"<|start|><|message|>hi<|return|>", "has no role", {"assistant|-|-|-|hi|return"}});
  expect({"<|channel|>commentary to=functions.web-browsing and more<|message|>{}<|call|>",
          "unexpected words",
          {"assistant|commentary|functions.web-browsing|and|{}|call"}});
  expect({"<|channel|>commentary to=<|message|>{}<|call|>",
          "is not a recipient",
          {"assistant|commentary|-|-|{}|call"}});
  expect({"<|channel|>final<|message|>a<|message|>b<|constrain|>c<|reserved_264|>d<|return|>",
          nullptr,
          {"assistant|final|-|-|abcd|return"}});
}

TEST(HarmonyParser, ControlTokensSpelledInAHeaderAreText) {
  HarmonyParser parser(small_encoding());
  std::vector<text::TokenId> tokens =
      small_tokenizer()->encode("to=x<|channel|>final", {.parse_special = false});
  tokens.push_back(small_encoding()->control_tokens().message);
  for (const text::TokenId token : tokens) parser.feed(token);
  EXPECT_EQ(parser.open_message()->message.channel, std::nullopt);
}

TEST(HarmonyParser, UnknownIds) {
  for (const text::TokenId unknown : {-1, 265, 1 << 30, -(1 << 30)}) {
    HarmonyParser strict(small_encoding(), Mode::kStrict);
    EXPECT_THROW(strict.feed(unknown), Error);
    HarmonyParser tolerant(small_encoding());
    for (const text::TokenId token : tokens_of("<|channel|>final<|message|>a")) {
      EXPECT_EQ(tolerant.feed(unknown), "");
      tolerant.feed(token);
    }
    tolerant.finish();
    EXPECT_EQ(describe(tolerant.messages().at(0)), "assistant|final|-|-|a|truncated");
  }
}

TEST(HarmonyParser, DeltasAreWholeCharacters) {
  HarmonyParser parser(small_encoding());
  std::vector<std::string> deltas;
  for (const text::TokenId token : tokens_of("<|message|>é👋")) deltas.push_back(parser.feed(token));
  EXPECT_EQ(deltas, (std::vector<std::string>{"", "", "é", "", "", "", "👋"}));
  parser.feed(tokens_of("👋")[0]);
  EXPECT_EQ(parser.finish(), "\uFFFD");
  EXPECT_EQ(parser.messages().at(0).message.text(), "é👋\uFFFD");
}

TEST(HarmonyParser, EndlessHeaderIsBounded) {
  const std::string text(HarmonyParser::kMaxHeaderBytes + 5, 'x');
  EXPECT_THAT(strict_error(text), testing::HasSubstr("exceeds"));
  HarmonyParser parser(small_encoding());
  std::string streamed;
  for (const text::TokenId token : tokens_of(text + "👋")) streamed += parser.feed(token);
  EXPECT_EQ(streamed, text + "👋");
  ASSERT_NE(parser.open_message(), nullptr);
  EXPECT_EQ(parser.open_message()->message.text(), streamed);

  std::string channels;
  for (int i = 0; i < 5000; ++i) channels += "<|channel|>";
  EXPECT_THAT(strict_error(channels), testing::HasSubstr("exceeds"));
  EXPECT_NO_THROW(parse(channels));
}

TEST(HarmonyParser, WordsTooLongForAHeaderAreCut) {
  const std::string longest(kMaxHeaderWordBytes, 'x');
  for (const std::string header :
       {"<|channel|>{0}<|message|>", "to={0}<|message|>", "a {0}<|message|>",
        "<|start|>{0}.f to=assistant<|message|>", "<|start|>user:{0}<|message|>",
        "<|channel|>final<|constrain|>{0}<|message|>", "to={0}<|end|>",
        "<|constrain|>{0}<|end|>"}) {
    SCOPED_TRACE(header);
    const std::string text = fmt::format(fmt::runtime(header), longest + "x");
    EXPECT_NE(strict_error(text), "no error");
    HarmonyParser parser(small_encoding());
    for (const text::TokenId token : tokens_of(text)) parser.feed(token);
    parser.finish();
    for (const auto& [message, end] : parser.messages()) {
      EXPECT_NO_THROW(small_encoding()->render_for_completion({{message}}));
    }
  }
  EXPECT_EQ(parse("to=" + longest + "<|message|>hi<|end|>", Mode::kStrict),
            Messages{"assistant|-|" + longest + "|-|hi|end"});
}

// For any token sequence: no exception, deltas concatenate to the message texts, completed messages
// do not change, and all messages can be rendered.
TEST(HarmonyParser, TolerantModeSurvivesAnything) {
  std::mt19937 random(7);
  const char* const fragments[] = {"assistant",   "user",   "system:x", "tool",     "functions.f",
                                   " to=",        "to=a",   "final",    "analysis", " ",
                                   "json",        "<|",     "\n",       "é",        "<|start|>",
                                   "<|channel|>", "tool:x", ":"};
  for (int round = 0; round < 3000; ++round) {
    std::vector<text::TokenId> tokens;
    const int length = static_cast<int>(random() % 40);
    for (int i = 0; i < length; ++i) {
      switch (random() % 3) {
        case 0:
          tokens.push_back(static_cast<text::TokenId>(256 + random() % 10));
          break;
        case 1:
          tokens.push_back(static_cast<text::TokenId>(random() % 256));
          break;
        default:
          for (const text::TokenId id : small_tokenizer()->encode(
                   fragments[random() % std::size(fragments)], {.parse_special = false})) {
            tokens.push_back(id);
          }
      }
    }
    HarmonyParser parser(small_encoding());
    std::vector<std::string> completed;
    std::vector<std::string> texts;
    const auto note = [&](const std::string& delta) {
      texts.resize(parser.messages().size());
      if (!delta.empty()) texts.back() += delta;
    };
    for (const text::TokenId token : tokens) {
      note(parser.feed(token));
      const auto& messages = parser.messages();
      ASSERT_LE(completed.size(), messages.size());
      for (size_t i = 0; i < completed.size(); ++i) ASSERT_EQ(describe(messages[i]), completed[i]);
      for (size_t i = completed.size(); i < messages.size() && messages[i].complete(); ++i) {
        completed.push_back(describe(messages[i]));
      }
    }
    note(parser.finish());
    Conversation conversation;
    for (size_t i = 0; i < parser.messages().size(); ++i) {
      ASSERT_NE(parser.messages()[i].end, MessageEnd::kOpen);
      ASSERT_EQ(parser.messages()[i].message.text(), texts[i]);
      conversation.messages.push_back(parser.messages()[i].message);
    }
    ASSERT_NO_THROW(small_encoding()->render_for_completion(conversation));
  }
}

}  // namespace
}  // namespace mxgpt::harmony
