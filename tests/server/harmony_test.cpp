// Harmony as the server keeps and reads it.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <bit>
#include <map>
#include <random>

#include "server/harmony_guard.h"
#include "server/reader.h"
#include "text/harmony/small_tokenizer.h"

namespace mxgpt::server {
namespace {

using harmony::HarmonyParser;

std::shared_ptr<const harmony::HarmonyEncoding> encoding() {
  static const auto one =
      std::make_shared<const harmony::HarmonyEncoding>(harmony::small_tokenizer());
  return one;
}

constexpr int64_t kVocabulary = 300;  // more than the tokenizer has

/// Letters a and b by turns, an even number of them.
class Pairs : public TextGrammar {
  class Turn : public State {
   public:
    void mask(std::span<uint32_t> allowed) override {
      const TokenId token = *harmony::small_tokenizer()->token_to_id(a_ ? "a" : "b");
      allowed[token / 32] |= 1u << token % 32;
    }
    bool may_end() const override { return a_; }
    void accept(TokenId) override { a_ = !a_; }

   private:
    bool a_ = true;
  };

 public:
  std::unique_ptr<State> begin() const override { return std::make_unique<Turn>(); }
};

/// Draws among what is allowed, control tokens rather than others, until the guard ends it.
std::vector<TokenId> draw(const std::shared_ptr<const HarmonyRules>& rules, uint64_t seed,
                          int most = 400) {
  const auto guard = guard_harmony(rules);
  std::mt19937_64 random(seed);
  std::vector<TokenId> out;
  while (static_cast<int>(out.size()) < most) {
    std::vector<uint32_t> mask((kVocabulary + 31) / 32);
    EXPECT_TRUE(guard->mask(mask));
    std::vector<TokenId> control, any;
    for (TokenId token = 0; token < kVocabulary; ++token) {
      if (!(mask[token / 32] >> token % 32 & 1)) continue;
      any.push_back(token);
      if (token >= 256) control.push_back(token);
    }
    EXPECT_FALSE(any.empty());
    if (any.empty()) return out;
    const auto& from = !control.empty() && random() % 8 == 0 ? control : any;
    out.push_back(from[random() % from.size()]);
    if (!guard->accept(out.back())) break;
  }
  return out;
}

std::vector<harmony::ParsedMessage> parse_strictly(const std::vector<TokenId>& tokens) {
  HarmonyParser parser(encoding(), HarmonyParser::Mode::kStrict);
  for (const TokenId token : tokens) EXPECT_NO_THROW(parser.feed(token));
  return parser.messages();
}

std::shared_ptr<const HarmonyRules> rules(HarmonyRules::Options options) {
  return std::make_shared<const HarmonyRules>(encoding(), kVocabulary, std::move(options));
}

TEST(HarmonyGuard, NothingMalformedCanBeDrawn) {
  const auto free = rules({.functions = {{"f", nullptr}, {"get_it", nullptr}}});
  std::map<std::string, int> seen;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::optional<std::string> last;
    for (const auto& parsed : parse_strictly(draw(free, seed))) {
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
    for (const auto& parsed : parse_strictly(draw(rules({}), seed)))
      EXPECT_THAT(*parsed.message.channel, testing::AnyOf("analysis", "final"));
  }
}

TEST(HarmonyGuard, ADemandedCallComes) {
  const auto demanded = rules({.functions = {{"f", nullptr}}, .must_call = true});
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const auto messages = parse_strictly(draw(demanded, seed, 100000));
    ASSERT_FALSE(messages.empty());
    EXPECT_TRUE(messages.back().message.is_tool_call());
    EXPECT_LE(messages.size(), 2u);  // reasoning, at most once
  }
}

TEST(HarmonyGuard, GrammarsHoldInTheirMessagesAndReasoningIsFree) {
  const auto pairs = std::make_shared<const Pairs>();
  const auto both = rules({.functions = {{"f", pairs}}, .final_text = pairs});
  int finals = 0, calls = 0, free = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    for (const auto& parsed : parse_strictly(draw(both, seed))) {
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

struct Read {
  std::string reasoning, content, calls;
  bool ended = false;
};

Read read(const std::string& text, std::vector<std::string> stops = {}) {
  const auto reader = read_harmony(encoding(), std::move(stops));
  Read out;
  std::vector<Piece> pieces;
  for (const TokenId token : harmony::small_tokenizer()->encode(text)) {
    if (reader->push(token, pieces)) continue;
    out.ended = true;
    break;
  }
  reader->finish(pieces);
  for (const Piece& piece : pieces) {
    switch (piece.kind) {
      case Piece::Kind::reasoning:
        out.reasoning += piece.text;
        break;
      case Piece::Kind::content:
        out.content += piece.text;
        break;
      case Piece::Kind::call:
        out.calls += "[" + piece.text + "]";
        break;
      case Piece::Kind::arguments:
        out.calls += piece.text;
        break;
    }
  }
  return out;
}

TEST(HarmonyReader, PartsOfAnAnswer) {
  const Read final_answer = read(
      "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Oslo."
      "<|return|>");
  EXPECT_EQ(final_answer.reasoning, "Hm.");
  EXPECT_EQ(final_answer.content, "Oslo.");
  EXPECT_TRUE(final_answer.ended);
  const Read call = read(
      "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant "
      "to=functions.f<|channel|>commentary"
      " <|constrain|>json<|message|>{\"x\":1}<|call|>");
  EXPECT_EQ(call.content, "I look.");
  EXPECT_EQ(call.calls, "[f]{\"x\":1}");
}

TEST(HarmonyReader, WhatIsMalformedLosesNothing) {
  // A header that does not end, a doubled start, an empty channel, end and return, a missing
  // message.
  EXPECT_EQ(read("Just text").content, "Just text");
  EXPECT_EQ(read("<|channel|>final<|message|>A<|end|><|return|>").content, "A");
  EXPECT_EQ(read("<|start|><|start|>assistant<|channel|>final<|message|>B").content, "B");
  EXPECT_EQ(read("<|channel|><|message|>C").content, "C");
  EXPECT_EQ(
      read("<|channel|>analysis<|message|>D<|end|><|start|>assistant<|channel|>fin").reasoning,
      "D");
  EXPECT_EQ(read("<|channel|>commentary to=functions.get_w").calls, "");  // half a name, it may be
  EXPECT_EQ(read("<|channel|>commentary to=functions.f<|message|>{\"x\"").calls, "[f]{\"x\"");
  // The model speaks for the user after its answer.
  EXPECT_EQ(read("<|channel|>final<|message|>E<|end|><|start|>user<|message|>And?").content, "E");
}

TEST(HarmonyReader, StopTextsEndTheContentOnly) {
  const std::string text =
      "<|channel|>analysis<|message|>one STOP "
      "two<|end|><|start|>assistant<|channel|>final<|message|>"
      "three STOP four<|return|>";
  const Read stopped = read(text, {"STOP"});
  EXPECT_EQ(stopped.reasoning, "one STOP two");
  EXPECT_EQ(stopped.content, "three ");
  EXPECT_TRUE(stopped.ended);
  EXPECT_EQ(read(text, {"four and more"}).content, "three STOP four");
}

}  // namespace
}  // namespace mxgpt::server
