// Structured output: what is compiled, what is refused, and what is kept.
#include "chat/constraints/grammar_compiler.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <set>

#include "server/api/api_error.h"
#include "support/small_tokenizer.h"

namespace mxgpt::chat {
namespace {

using testing::HasSubstr;

GrammarCompiler& compiler() {
  static GrammarCompiler one(harmony::small_tokenizer(), true, 300);
  return one;
}

/// How many bytes of the text the grammar takes, and whether it may end behind them.
std::string accepted_prefix(const Grammar& grammar, std::string_view text) {
  const auto state = grammar.make_matcher();
  size_t count = 0;
  for (const text::TokenId token : harmony::small_tokenizer()->encode(text)) {
    std::vector<uint32_t> mask(10);
    state->fill_mask(mask);
    if (!(mask[token / 32] >> token % 32 & 1)) break;
    for (text::TokenId special = 256; special < 300; ++special)
      EXPECT_FALSE(mask[special / 32] >> special % 32 & 1) << special;
    state->accept(token);
    ++count;
  }
  return fmt::format("{}{}", text.substr(0, count), state->is_complete() ? "." : "");
}

json::value parse(std::string_view text) {
  return json::parse(text, "test");
}

TEST(Grammars, JsonSchemas) {
  const auto person = compiler().json_schema(
      parse(R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},
                "required":["name","age"]})"),
      "schema");
  EXPECT_EQ(accepted_prefix(*person, R"({"name":"Ada","age":36})"), R"({"name":"Ada","age":36}.)");
  EXPECT_EQ(accepted_prefix(*person, R"({"name":"Ada","age":"36"})"), R"({"name":"Ada","age":)");
  EXPECT_EQ(accepted_prefix(*person, R"({"name":"Ada"})"), R"({"name":"Ada")");
  EXPECT_EQ(accepted_prefix(*person, "[1]"), "");
  const auto any = compiler().json_schema(parse(R"({"type":"object"})"), "schema");
  EXPECT_EQ(accepted_prefix(*any, R"({"a":[1,{"b":null}]})"), R"({"a":[1,{"b":null}]}.)");
}

TEST(Grammars, PatternsAndGrammars) {
  EXPECT_EQ(accepted_prefix(*compiler().regex("[a-c]{2}(x|y)+", "regex"), "abxyz"), "abxy.");
  EXPECT_EQ(accepted_prefix(*compiler().ebnf("root ::= \"yes\" | \"no\"", "grammar"), "nobody"),
            "no.");
}

template <class Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const server::ApiError& e) {
    EXPECT_EQ(e.status, 400);
    EXPECT_EQ(e.param, "p");
    return e.what();
  }
  return "taken";
}

std::string schema_refusal(std::string_view text) {
  return refusal([&] { compiler().json_schema(parse(text), "p"); });
}
std::string regex_refusal(const std::string& text) {
  return refusal([&] { compiler().regex(text, "p"); });
}
std::string ebnf_refusal(const std::string& text) {
  return refusal([&] { compiler().ebnf(text, "p"); });
}

TEST(Grammars, WhatOthersStumbledOverIsRefusedAndNamed) {
  EXPECT_THAT(regex_refusal(std::string(1000, '(')), HasSubstr("nested deeper"));
  EXPECT_THAT(regex_refusal(std::string(60000, '(')), HasSubstr("longer than"));
  EXPECT_THAT(regex_refusal("a{1,1000000000}"), HasSubstr("repeats more than"));
  EXPECT_THAT(regex_refusal("((a{99}){99}){99}"), HasSubstr("repeats more than"));
  EXPECT_THAT(regex_refusal("(a"), HasSubstr("p: "));
  EXPECT_THAT(ebnf_refusal("root ::= " + std::string(60000, '(')), HasSubstr("nested deeper"));
  EXPECT_THAT(ebnf_refusal("root ::= missing"), HasSubstr("cannot be used"));
  EXPECT_THAT(ebnf_refusal(""), HasSubstr("cannot be used"));
  EXPECT_THAT(ebnf_refusal("root ::= a{1000000000}\na ::= \"x\""), HasSubstr("repeats more than"));
  EXPECT_THAT(ebnf_refusal(R"(root ::= "\"[" [a]{1000000000})"), HasSubstr("repeats more than"));
  EXPECT_THAT(ebnf_refusal("# [\rroot ::= [a]{1000000000}"), HasSubstr("repeats more than"));
  EXPECT_EQ(ebnf_refusal("root ::= \"" + std::string(100, '(') + "{1000\" # (((["), "taken");
  std::string rules = "root ::= \"a\"\n";
  for (int i = 0; i < 5000; ++i) rules += fmt::format("r{} ::= \"a\"\n", i);
  EXPECT_THAT(ebnf_refusal(rules), HasSubstr("more than 1000 rules"));
  EXPECT_THAT(schema_refusal(R"({"type":"strong"})"), HasSubstr("cannot be used"));
  EXPECT_THAT(schema_refusal(R"({"type":"string","pattern":"("})"), HasSubstr("p: "));
  EXPECT_THAT(schema_refusal(R"({"type":"string","pattern":"(a{999}){999}"})"),
              HasSubstr("repeats"));
  EXPECT_THAT(schema_refusal(R"({"type":"array","minItems":1e9})"), HasSubstr("minItems"));
  EXPECT_THAT(schema_refusal(R"({"$ref":"#/nowhere"})"), HasSubstr("p: "));
}

TEST(Grammars, RecursionIsTakenOrRefusedButEnds) {
  for (const char* schema :
       {R"({"$ref":"#"})", R"({"type":"object","properties":{"next":{"$ref":"#"}}})",
        R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"})",
        R"({"anyOf":[{"$ref":"#"},{"type":"string"}]})"})
    EXPECT_THAT(schema_refusal(schema), testing::AnyOf("taken", HasSubstr("p: "))) << schema;
  EXPECT_THAT(ebnf_refusal("root ::= root"), testing::AnyOf("taken", HasSubstr("p: ")));
  EXPECT_THAT(regex_refusal("(((a*)*)*)*"), testing::AnyOf("taken", HasSubstr("p: ")));
}

TEST(Grammars, WhoComesWhileOthersCompileForLongIsToldToComeAgain) {
  GrammarCompiler hasty(harmony::small_tokenizer(), true, 300, std::chrono::milliseconds(0));
  std::set<int> statuses;
  // The first is given up at once, and goes on; those that follow find it in the way.
  for (int i = 0; !statuses.contains(429) && i < 1000; ++i) {
    try {
      hasty.regex(fmt::format("([a-z]{{1,200}}){}", i), "p");
    } catch (const server::ApiError& e) {
      statuses.insert(e.status);
      if (e.status == 429) EXPECT_EQ(e.retry_after, 5);
      if (e.status == 400) EXPECT_THAT(e.what(), HasSubstr("p: the regex takes longer than 0 ms"));
    }
  }
  EXPECT_THAT(statuses, testing::ElementsAre(400, 429));
}

TEST(Grammars, ManySchemasKeepWithinTheBound) {
  GrammarCompiler many(harmony::small_tokenizer(), true, 300);
  const auto first = many.regex("x0", "p");
  EXPECT_EQ(many.regex("x0", "p"), first);
  for (int i = 1; i < 400; ++i) many.regex(fmt::format("x{}", i), "p");
  EXPECT_LE(many.cache_stats().count, 128u);
  EXPECT_NE(many.regex("x0", "p"), first);
}

}  // namespace
}  // namespace mxgpt::chat
