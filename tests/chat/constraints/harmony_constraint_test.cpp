#include "chat/constraints/harmony_constraint.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <bit>
#include <map>
#include <random>

#include "support/small_tokenizer.h"
#include "text/chat/harmony/parser.h"

namespace mxgpt::chat {
namespace {

using harmony::HarmonyParser;

std::shared_ptr<const harmony::HarmonyEncoding> encoding() {
  static const auto one =
      std::make_shared<const harmony::HarmonyEncoding>(harmony::small_tokenizer());
  return one;
}

constexpr int64_t kVocabulary = 300;  // more than the tokenizer has

/// Alternating letters a and b, an even number of them.
class AlternatingLetters : public Grammar {
  class Turn : public Matcher {
   public:
    void fill_mask(std::span<uint32_t> allowed) override {
      const text::TokenId token = *harmony::small_tokenizer()->token_to_id(a_ ? "a" : "b");
      allowed[token / 32] |= 1u << token % 32;
    }
    bool is_complete() override { return a_; }
    void accept(text::TokenId) override { a_ = !a_; }

   private:
    bool a_ = true;
  };

 public:
  std::unique_ptr<Matcher> make_matcher() const override { return std::make_unique<Turn>(); }
};

/// Samples allowed tokens, control tokens more often than others, until the constraint ends the
/// choice.
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

TEST(HarmonyConstraint, AllowsNoMalformedOutput) {
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

TEST(HarmonyConstraint, AllowsNoCallsWithoutTools) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (const auto& parsed : parse_strictly(sample_tokens(make_spec({}), seed)))
      EXPECT_THAT(*parsed.message.channel, testing::AnyOf("analysis", "final"));
  }
}

TEST(HarmonyConstraint, EndsInARequiredCall) {
  const auto demanded = make_spec({.functions = {{"f", nullptr}}, .call_required = true});
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const auto messages = parse_strictly(sample_tokens(demanded, seed, 100000));
    ASSERT_FALSE(messages.empty());
    EXPECT_TRUE(messages.back().message.is_tool_call());
    EXPECT_LE(messages.size(), 2u);  // at most one of reasoning, then the call
  }
}

TEST(HarmonyConstraint, GrammarsHoldInTheirMessagesAndReasoningIsFree) {
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

}  // namespace
}  // namespace mxgpt::chat
