#include "chat/constraints/grammar_compiler.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <future>
#include <set>
#include <system_error>

#include "chat/request_error.h"
#include "engine/request.h"
#include "support/small_tokenizer.h"

namespace mxgpt::chat {
namespace {

using testing::HasSubstr;

GrammarCompiler& compiler() {
  static GrammarCompiler one(harmony::small_tokenizer(), true, 300);
  return one;
}

/// The prefix of `text` that the grammar accepts, with a full stop if the text may end there.
std::string accepted_prefix(const Grammar& grammar, std::string_view text) {
  const auto matcher = grammar.make_matcher();
  size_t count = 0;
  for (const text::TokenId token : harmony::small_tokenizer()->encode(text)) {
    std::vector<uint32_t> mask(10);
    matcher->fill_mask(mask);
    if (!(mask[token / 32] >> token % 32 & 1)) break;
    for (text::TokenId special = 256; special < 300; ++special)
      EXPECT_FALSE(mask[special / 32] >> special % 32 & 1) << special;
    matcher->accept(token);
    ++count;
  }
  return fmt::format("{}{}", text.substr(0, count), matcher->is_complete() ? "." : "");
}

json::value parse(std::string_view text) {
  return json::parse(text, "test");
}

TEST(GrammarCompiler, JsonSchemas) {
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

TEST(GrammarCompiler, RegexesAndGrammars) {
  EXPECT_EQ(accepted_prefix(*compiler().regex("[a-c]{2}(x|y)+", "regex"), "abxyz"), "abxy.");
  EXPECT_EQ(accepted_prefix(*compiler().ebnf("root ::= \"yes\" | \"no\"", "grammar"), "nobody"),
            "no.");
}

/// The text of the error that `call` throws; "accepted" if it throws none.
template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const RequestError& e) {
    EXPECT_EQ(e.kind, RequestError::Kind::invalid);
    EXPECT_EQ(e.field, "p");
    return e.what();
  }
  return "accepted";
}

std::string schema_error(std::string_view text) {
  return error_of([&] { compiler().json_schema(parse(text), "p"); });
}
std::string regex_error(const std::string& text) {
  return error_of([&] { compiler().regex(text, "p"); });
}
std::string ebnf_error(const std::string& text) {
  return error_of([&] { compiler().ebnf(text, "p"); });
}

TEST(GrammarCompiler, SourcesOverTheLimitsAreRefused) {
  EXPECT_THAT(regex_error(std::string(1000, '(')), HasSubstr("nested deeper"));
  EXPECT_THAT(regex_error(std::string(60000, '(')), HasSubstr("longer than"));
  EXPECT_THAT(regex_error("a{1,1000000000}"), HasSubstr("repeats more than"));
  EXPECT_THAT(regex_error("((a{99}){99}){99}"), HasSubstr("repeats more than"));
  EXPECT_THAT(regex_error("(a"), HasSubstr("p: "));
  EXPECT_THAT(ebnf_error("root ::= " + std::string(60000, '(')), HasSubstr("nested deeper"));
  EXPECT_THAT(ebnf_error("root ::= missing"), HasSubstr("cannot be used"));
  EXPECT_THAT(ebnf_error(""), HasSubstr("cannot be used"));
  EXPECT_THAT(ebnf_error("root ::= a{1000000000}\na ::= \"x\""), HasSubstr("repeats more than"));
  EXPECT_THAT(ebnf_error(R"(root ::= "\"[" [a]{1000000000})"), HasSubstr("repeats more than"));
  EXPECT_THAT(ebnf_error("# [\rroot ::= [a]{1000000000}"), HasSubstr("repeats more than"));
  EXPECT_EQ(ebnf_error("root ::= \"" + std::string(100, '(') + "{1000\" # ((("), "accepted");
  std::string rules = "root ::= \"a\"\n";
  for (int i = 0; i < 5000; ++i) rules += fmt::format("r{} ::= \"a\"\n", i);
  EXPECT_THAT(ebnf_error(rules), HasSubstr("more than 1000 rules"));
  EXPECT_THAT(schema_error(R"({"type":"strong"})"), HasSubstr("cannot be used"));
  EXPECT_THAT(schema_error(R"({"type":"string","pattern":"("})"), HasSubstr("p: "));
  EXPECT_THAT(schema_error(R"({"type":"string","pattern":"(a{999}){999}"})"), HasSubstr("repeats"));
  EXPECT_THAT(schema_error(R"({"type":"array","minItems":1e9})"), HasSubstr("minItems"));
  EXPECT_THAT(schema_error(R"({"$ref":"#/nowhere"})"), HasSubstr("p: "));
}

TEST(GrammarCompiler, UnboundedRepetitionOfTheEmptyStringIsRefused) {
  const auto refused = HasSubstr("its body can match the empty string");
  for (const char* regex :
       {"(.?)*", "(a*)*", "(a*)+", "(a?|b)*", "(a|)+", "x((a?)(b*))*y", "(?:a?)*", "(a?){2,}",
        "(?<n>a?)*", "(((a*)*)*)*", "(^)*", "(\\b)+", "([(]?)*"})
    EXPECT_THAT(regex_error(regex), refused) << regex;
  for (const char* regex :
       {"(a|b)*", "(a?b)*", "(\\s*\\w+\\s*)*", "a*b*", "(a?){3}", "[(]*", "\\(*"})
    EXPECT_EQ(regex_error(regex), "accepted") << regex;
  EXPECT_THAT(regex_error("b(a?)*c"), HasSubstr("'(a?)*'"));
  for (const char* grammar :
       {"root ::= (\"a\"?)*", "root ::= ([a-z ]?)* \"x\"", "root ::= a*\na ::= \"x\" | \"\"",
        "root ::= (b c)+\nb ::= \"x\"?\nc ::= b b", "root ::= (a?) *\na ::= \"x\"",
        "root ::= (\"a\"|\"b\"|(\"c\" [d-f]*)?)*", "root ::= ( | \"b\")*",
        "root ::= (# )*\n \"a\"?)*"})
    EXPECT_THAT(ebnf_error(grammar), refused) << grammar;
  EXPECT_EQ(ebnf_error("root ::= (a b?)*\na ::= \"(x?)*\"\nb ::= \"y\""), "accepted");
  EXPECT_THAT(schema_error(R"({"type":"string","pattern":"(.?)*"})"), refused);
  EXPECT_THAT(schema_error(R"({"patternProperties":{"(.?)*":{}}})"), refused);
}

TEST(GrammarCompiler, ErrorsDoNotNameSourceFiles) {
  const std::string error = schema_error(R"({"$ref":"#/nowhere"})");
  EXPECT_THAT(error, testing::Not(HasSubstr(".cc")));
  EXPECT_THAT(error, testing::Not(testing::EndsWith("\\n")));
  EXPECT_THAT(error, HasSubstr("p: the schema cannot be used: "));
}

TEST(GrammarCompiler, RecursiveSchemasEndInAGrammarOrAnError) {
  for (const char* schema :
       {R"({"$ref":"#"})", R"({"type":"object","properties":{"next":{"$ref":"#"}}})",
        R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"})",
        R"({"anyOf":[{"$ref":"#"},{"type":"string"}]})"})
    EXPECT_THAT(schema_error(schema), testing::AnyOf("accepted", HasSubstr("p: "))) << schema;
  EXPECT_THAT(ebnf_error("root ::= root"), testing::AnyOf("accepted", HasSubstr("p: ")));
}

TEST(GrammarCompiler, CompilationThatTakesTooLongGivesAnError) {
  GrammarCompiler hasty(harmony::small_tokenizer(), true, 300,
                        {.max_time = std::chrono::milliseconds(0)});
  std::set<RequestError::Kind> kinds;
  // The first compilation is abandoned at once, and may still hold the slot when the next is asked
  // for.
  for (int i = 0; !kinds.contains(RequestError::Kind::busy) && i < 1000; ++i) {
    try {
      hasty.regex(fmt::format("([a-z]{{1,200}}){}", i), "p");
    } catch (const RequestError& e) {
      kinds.insert(e.kind);
      if (e.kind == RequestError::Kind::invalid)
        EXPECT_THAT(e.what(), HasSubstr("p: the regex takes longer than 0 ms"));
    }
  }
  EXPECT_THAT(kinds, testing::ElementsAre(RequestError::Kind::invalid, RequestError::Kind::busy));
}

TEST(GrammarCompiler, CacheIsBounded) {
  GrammarCompiler many(harmony::small_tokenizer(), true, 300);
  const auto first = many.regex("x0", "p");
  EXPECT_EQ(many.regex("x0", "p"), first);
  for (int i = 1; i < 400; ++i) many.regex(fmt::format("x{}", i), "p");
  EXPECT_LE(many.cache_stats().count, 128u);
  EXPECT_NE(many.regex("x0", "p"), first);
}

// A container's limit on threads may be reached for a moment.
TEST(GrammarCompiler, AThreadThatCannotStartFailsOneRequestOnly) {
  int failures = 4;  // the compiler starts two threads, and each request tries again
  GrammarCompiler unlucky(harmony::small_tokenizer(), true, 300,
                          {.start_thread = [&](std::function<void()> body) {
                            if (failures-- > 0)
                              throw std::system_error(EAGAIN, std::system_category());
                            return std::thread(std::move(body));
                          }});
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      unlucky.regex("ab", "p");
      FAIL() << "compiled without a thread";
    } catch (const RequestError& e) {
      EXPECT_EQ(e.kind, RequestError::Kind::busy);
    }
  }
  EXPECT_EQ(accepted_prefix(*unlucky.regex("ab", "p"), "abc"), "ab.");
}

/// Every split of a run of letters into two is a parse: work grows with the cube of its length.
std::string ambiguous_grammar() {
  return "root ::= s\ns ::= s s | \"a\" | \"b\"";
}

/// Many nullable rules in a row: nothing that is refused beforehand, but ambiguous.
std::string ambiguous_regex(int count) {
  std::string regex;
  for (int i = 0; i < count; ++i) regex += "(a|b)?";
  return regex;
}

TEST(GrammarCompiler, AMaskWithinItsBudgetIsComputedInTheBackground) {
  const auto grammar = compiler().regex(ambiguous_regex(250), "p");
  const auto matcher = grammar->make_matcher();
  std::vector<uint32_t> mask(10), expected(10);
  int refused = 0;
  compiler().regex("[ab]*", "p")->make_matcher()->fill_mask(expected);
  for (int i = 0; i < 20; ++i) {
    while (!matcher->prepare()) {
      ++refused;
      std::this_thread::yield();
    }
    EXPECT_FALSE(matcher->is_pending());
    matcher->fill_mask(mask);
    EXPECT_EQ(mask, expected) << i;
    matcher->accept(*harmony::small_tokenizer()->token_to_id(i % 3 ? "a" : "b"));
  }
  EXPECT_TRUE(matcher->is_complete());
  EXPECT_GT(refused, 0) << "every mask was within kInlineWork";
}

TEST(GrammarCompiler, AMaskOverItsBudgetTimesOutAndItsGrammarIsForgotten) {
  GrammarCompiler own(harmony::small_tokenizer(), true, 300);
  const auto grammar = own.ebnf(ambiguous_grammar(), "p");
  EXPECT_EQ(own.cache_stats().count, 1u);
  const auto matcher = grammar->make_matcher();
  std::vector<uint32_t> mask(10);
  EXPECT_THROW(
      for (int i = 0; i < 100000; ++i) {
        matcher->fill_mask(mask);
        matcher->accept(*harmony::small_tokenizer()->token_to_id("a"));
      },
      engine::ConstraintTimeout);
  EXPECT_EQ(own.cache_stats().count, 0u);
}

TEST(GrammarCompiler, AnAbandonedMatcherStopsComputing) {
  GrammarCompiler own(harmony::small_tokenizer(), true, 300);
  const auto grammar = own.ebnf(ambiguous_grammar(), "p");
  for (int i = 0; i < 50; ++i) {
    const auto matcher = grammar->make_matcher();
    for (int j = 0; j < 300; ++j) matcher->accept(*harmony::small_tokenizer()->token_to_id("a"));
    EXPECT_FALSE(matcher->prepare());
  }
  // The thread is free again, rather than busy with fifty masks of seconds each.
  const auto other = own.regex(ambiguous_regex(60), "p")->make_matcher();
  std::vector<uint32_t> mask(10);
  other->fill_mask(mask);
}

}  // namespace
}  // namespace mxgpt::chat
