// Harmony as the server keeps and reads it.
#include "chat/constraints/harmony_constraint.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <bit>
#include <map>
#include <random>

#include "chat/output_parser.h"
#include "support/small_tokenizer.h"

namespace mxgpt::chat {
namespace {

using harmony::HarmonyParser;

std::shared_ptr<const harmony::HarmonyEncoding> encoding() {
  static const auto one =
      std::make_shared<const harmony::HarmonyEncoding>(harmony::small_tokenizer());
  return one;
}

constexpr int64_t kVocabulary = 300;  // more than the tokenizer has

/// Letters a and b by turns, an even number of them.
class AlternatingLetters : public Grammar {
  class Turn : public Matcher {
   public:
    void fill_mask(std::span<uint32_t> allowed) override {
      const text::TokenId token = *harmony::small_tokenizer()->token_to_id(a_ ? "a" : "b");
      allowed[token / 32] |= 1u << token % 32;
    }
    bool is_complete() const override { return a_; }
    void accept(text::TokenId) override { a_ = !a_; }

   private:
    bool a_ = true;
  };

 public:
  std::unique_ptr<Matcher> make_matcher() const override { return std::make_unique<Turn>(); }
};

/// Draws among what is allowed, control tokens rather than others, until the guard ends it.
std::vector<text::TokenId> sample_tokens(const std::shared_ptr<const HarmonyConstraintSpec>& spec,
                                         uint64_t seed, int max_tokens = 400) {
  const auto constraint = make_harmony_constraint(spec);
  std::mt19937_64 random(seed);
  std::vector<text::TokenId> out;
  while (static_cast<int>(out.size()) < max_tokens) {
    std::vector<uint32_t> mask((kVocabulary + 31) / 32);
    EXPECT_TRUE(constraint->mask(mask));
    std::vector<text::TokenId> control, any;
    for (text::TokenId token = 0; token < kVocabulary; ++token) {
      if (!(mask[token / 32] >> token % 32 & 1)) continue;
      any.push_back(token);
      if (token >= 256) control.push_back(token);
    }
    EXPECT_FALSE(any.empty());
    if (any.empty()) return out;
    const auto& from = !control.empty() && random() % 8 == 0 ? control : any;
    out.push_back(from[random() % from.size()]);
    if (!constraint->accept(out.back())) break;
  }
  return out;
}

std::vector<harmony::ParsedMessage> parse_strictly(const std::vector<text::TokenId>& tokens) {
  HarmonyParser parser(encoding(), HarmonyParser::Mode::kStrict);
  for (const text::TokenId token : tokens) EXPECT_NO_THROW(parser.feed(token));
  return parser.messages();
}

std::shared_ptr<const HarmonyConstraintSpec> make_spec(HarmonyConstraintSpec::Options options) {
  return std::make_shared<const HarmonyConstraintSpec>(encoding(), kVocabulary, std::move(options));
}

TEST(HarmonyGuard, NothingMalformedCanBeDrawn) {
  const auto free = make_spec({.functions = {{"f", nullptr}, {"get_it", nullptr}}});
  std::map<std::string, int> seen;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::optional<std::string> last;
    for (const auto& parsed : parse_strictly(sample_tokens(free, seed))) {
      const std::string channel = parsed.message.channel.value_or("none");
      const std::string kind =
          parsed.message.is_tool_call() ? channel + " " + *parsed.message.recipient : channel;
      ++seen[kind];
      EXPECT_NE(last, kind);
      last = kind;
    }
  }
  EXPECT_EQ(seen.size(), 5u);
  for (const char* kind :
       {"analysis", "commentary", "final", "commentary functions.f", "commentary functions.get_it"})
    EXPECT_GT(seen[kind], 5) << kind;
}

TEST(HarmonyGuard, WithoutToolsThereAreNoCalls) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (const auto& parsed : parse_strictly(sample_tokens(make_spec({}), seed)))
      EXPECT_THAT(*parsed.message.channel, testing::AnyOf("analysis", "final"));
  }
}

TEST(HarmonyGuard, ADemandedCallComes) {
  const auto demanded = make_spec({.functions = {{"f", nullptr}}, .call_required = true});
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const auto messages = parse_strictly(sample_tokens(demanded, seed, 100000));
    ASSERT_FALSE(messages.empty());
    EXPECT_TRUE(messages.back().message.is_tool_call());
    EXPECT_LE(messages.size(), 2u);  // reasoning, at most once
  }
}

TEST(HarmonyGuard, GrammarsHoldInTheirMessagesAndReasoningIsFree) {
  const auto pairs = std::make_shared<const AlternatingLetters>();
  const auto both = make_spec({.functions = {{"f", pairs}}, .final_grammar = pairs});
  int finals = 0, calls = 0, free = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    for (const auto& parsed : parse_strictly(sample_tokens(both, seed))) {
      if (!parsed.complete()) continue;
      const std::string text = parsed.message.text();
      if (parsed.message.channel == "analysis") {
        free += text.find_first_not_of("ab") != text.npos;
      } else if (parsed.message.channel == "final" || parsed.message.is_tool_call()) {
        EXPECT_EQ(text.size() % 2, 0u);
        for (size_t i = 0; i < text.size(); ++i) EXPECT_EQ(text[i], "ab"[i % 2]);
        ++(parsed.message.is_tool_call() ? calls : finals);
      }
    }
  }
  EXPECT_GT(finals, 20);
  EXPECT_GT(calls, 20);
  EXPECT_GT(free, 20);
}

struct ParsedOutput {
  std::string reasoning, content, calls;
  bool ended = false;
};

ParsedOutput parse_output(const std::string& text, std::vector<std::string> stops = {}) {
  const auto parser = make_harmony_parser(encoding(), std::move(stops));
  ParsedOutput out;
  std::vector<OutputDelta> deltas;
  for (const text::TokenId token : harmony::small_tokenizer()->encode(text)) {
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

TEST(HarmonyReader, PartsOfAnAnswer) {
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

TEST(HarmonyReader, WhatIsMalformedLosesNothing) {
  // A header that does not end, a doubled start, an empty channel, end and return, a missing
  // message.
  EXPECT_EQ(parse_output("Just text").content, "Just text");
  EXPECT_EQ(parse_output("<|channel|>final<|message|>A<|end|><|return|>").content, "A");
  EXPECT_EQ(parse_output("<|start|><|start|>assistant<|channel|>final<|message|>B").content, "B");
  EXPECT_EQ(parse_output("<|channel|><|message|>C").content, "C");
  EXPECT_EQ(parse_output("<|channel|>analysis<|message|>D<|end|><|start|>assistant<|channel|>fin")
                .reasoning,
            "D");
  EXPECT_EQ(parse_output("<|channel|>commentary to=functions.get_w").calls,
            "");  // half a name, it may be
  EXPECT_EQ(parse_output("<|channel|>commentary to=functions.f<|message|>{\"x\"").calls,
            "[f]{\"x\"");
  // The model speaks for the user after its answer.
  EXPECT_EQ(parse_output("<|channel|>final<|message|>E<|end|><|start|>user<|message|>And?").content,
            "E");
}

TEST(HarmonyReader, StopTextsEndTheContentOnly) {
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
