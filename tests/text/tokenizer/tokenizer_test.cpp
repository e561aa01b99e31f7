#include "text/tokenizer/tokenizer.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <string>
#include <thread>

#include "support/message_of.h"
#include "text/tokenizer/regex.h"
#include "text/unicode.h"

namespace mxgpt::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::shared_ptr<const Tokenizer> gpt_oss() {
  static const auto loaded = Tokenizer::load(MXGPT_FIXTURES "/gpt-oss-tokenizer");
  return loaded;
}

/// A tokenizer.json with a small BPE model and `extra` top-level fields.
std::string small(const std::string& extra = "", const std::string& model_extra = "") {
  return R"({"version":"1.0",)" + (extra.empty() ? "" : extra + ",") +
         R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"c":3,"<0xE4>":4,"<0xBD>":5,"<0xA0>":6},)" +
         R"("merges":["a b"])" + (model_extra.empty() ? "" : "," + model_extra) + "}}";
}

std::string error_of(const std::string& text) {
  return message_of([&] { Tokenizer::from_json(text, "t.json"); });
}

TEST(Tokenizer, KnowsItsTokens) {
  const auto t = gpt_oss();
  EXPECT_EQ(t->kind(), "BPE");
  EXPECT_EQ(t->vocab_size(), 200019);
  EXPECT_EQ(t->token_to_id("<|start|>"), 200006);
  EXPECT_EQ(t->id_to_token(200006), "<|start|>");
  EXPECT_TRUE(t->is_special(200006));
  EXPECT_FALSE(t->is_special(0));
  EXPECT_FALSE(t->is_special(-1));
  EXPECT_EQ(t->token_to_id("no such token"), std::nullopt);
  for (const TokenId id : {-1, 200019, INT32_MAX, INT32_MIN}) EXPECT_EQ(t->id_to_token(id), "");
}

TEST(Tokenizer, ControlTokensAreParsedOnlyWhenAsked) {
  const auto t = gpt_oss();
  EXPECT_THAT(t->encode("<|start|>"), ElementsAre(200006));
  const auto plain = t->encode("<|start|>", {.parse_special = false});
  EXPECT_GT(plain.size(), 1u);
  for (const TokenId id : plain) EXPECT_FALSE(t->is_special(id));
  EXPECT_EQ(t->decode(plain), "<|start|>");
  EXPECT_EQ(t->decode(t->encode("a<|end|>b"), true), "ab");
}

TEST(Tokenizer, PartsAreOneTextButLiteralOnesHaveNoControlTokens) {
  const auto t = gpt_oss();
  const auto encode = [&](std::vector<TextPart> parts) { return t->encode(parts); };
  EXPECT_EQ(encode({{"Hel"}, {"lo wo", true}, {"rld"}}), t->encode("Hello world"));
  EXPECT_EQ(encode({{"<|start|>"}, {"<|end|>", true}, {"<|end|>"}}).front(), 200006);
  const auto ids = encode({{"<|start|>"}, {"<|end|>", true}, {"<|end|>"}});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 200007), 1);
  EXPECT_EQ(t->decode(ids), "<|start|><|end|><|end|>");
  // Not even if only part of the token is literal.
  for (const auto& parts : std::vector<std::vector<TextPart>>{{{"<|start"}, {"|>", true}},
                                                              {{"<|", true}, {"start|>"}},
                                                              {{"<|"}, {"start", true}, {"|>"}}})
    for (const TokenId id : encode(parts)) EXPECT_FALSE(t->is_special(id));
  EXPECT_THAT(encode({{"<|sta"}, {"", true}, {"rt|>"}}), ElementsAre(200006));
  EXPECT_EQ(encode({{"\xff", true}, {"<|end|>"}}), t->encode("\uFFFD<|end|>"));
  EXPECT_TRUE(encode({}).empty());
}

TEST(Tokenizer, PartsKeepTheStrippingOfWhitespace) {
  const auto t = Tokenizer::from_json(
      small(R"("added_tokens":[{"id":7,"content":"<u>","special":true,"normalized":false,)"
            R"("lstrip":false,"rstrip":true,"single_word":false}])"),
      "t.json");
  EXPECT_EQ(t->encode(std::vector<TextPart>{{"<u>\n"}, {" \nab", true}, {"<u>"}}),
            t->encode("<u>\n \nab<u>"));
}

TEST(Tokenizer, InvalidUtf8IsReplacedByMaximalSubparts) {
  const auto t = gpt_oss();
  EXPECT_EQ(t->decode(t->encode("a\xF0\x9F\x98"
                                "b\xC0\xAF\xED\xA0\x80\xFF")),
            "a\uFFFDb\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(t->encode("\xE4\xBD"), t->encode("\uFFFD"));
}

TEST(Tokenizer, UnknownIdsAreSkipped) {
  const std::vector<TokenId> ids = {-5, 200006, 999999, INT32_MAX};
  EXPECT_EQ(gpt_oss()->decode(ids), "<|start|>");
}

/// Decodes ids one by one and checks each delta.
std::string streamed(const std::shared_ptr<const Tokenizer>& t, const std::vector<TokenId>& ids,
                     bool skip) {
  StreamDecoder decoder(t, skip);
  std::string all;
  for (const TokenId id : ids) {
    const std::string delta = decoder.push(id);
    EXPECT_TRUE(unicode::is_valid(delta));
    all += delta;
  }
  const std::string rest = decoder.finish();
  EXPECT_TRUE(unicode::is_valid(rest));
  return all + rest;
}

TEST(StreamDecoder, DeltasAreWholeCharactersAndJoinToDecode) {
  const auto t = gpt_oss();
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<TokenId> ids(random() % 30);
    for (TokenId& id : ids)
      id = random() % 4 == 0 ? static_cast<TokenId>(random() % 256)
                             : static_cast<TokenId>(random() % 200100);
    EXPECT_EQ(streamed(t, ids, false), t->decode(ids));
    EXPECT_EQ(streamed(t, ids, true), t->decode(ids, true));
  }
}

TEST(StreamDecoder, ACharacterAppearsWithItsLastByte) {
  const auto t = gpt_oss();
  const auto id = [&](std::string_view spelled) { return t->token_to_id(spelled).value(); };
  StreamDecoder decoder(t);  // U+1F600 is F0 9F 98 80
  EXPECT_EQ(decoder.push(id("ð")), "");
  EXPECT_EQ(decoder.push(id("Ł")), "");
  EXPECT_EQ(decoder.push(id("ĺ")), "");
  EXPECT_EQ(decoder.push(id("Ģ")), "😀");
  EXPECT_EQ(decoder.push(id("ð")), "");
  EXPECT_EQ(decoder.push(id("a")), "\uFFFDa");
  EXPECT_EQ(decoder.push(id("Ã")), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
}

TEST(StreamDecoder, EveryDecoderStreams) {
  const std::string to_space = R"({"type":"Replace","pattern":{"String":"b"},"content":" "})";
  const std::string stages[] = {
      R"({"type":"ByteFallback"})",
      R"({"type":"Fuse"})",
      R"({"type":"Strip","content":"a","start":2,"stop":1})",
      R"({"type":"Metaspace","replacement":"a"})",
      R"({"type":"WordPiece","prefix":"a","cleanup":true})",
      R"({"type":"BPEDecoder","suffix":"b"})",
      R"({"type":"CTC","pad_token":"c","word_delimiter_token":"b","cleanup":true})",
      R"({"type":"ByteLevel"})",
      to_space,
      R"({"type":"Replace","pattern":{"String":"aa"},"content":"-"})",
      R"({"type":"Replace","pattern":{"Regex":"a+"},"content":"+"})"};
  std::mt19937 random(2);
  for (const std::string& first : stages) {
    for (const std::string& second : stages) {
      for (const std::string& third : stages) {
        const auto t = Tokenizer::from_json(small(R"("decoder":{"type":"Sequence","decoders":[)" +
                                                  first + "," + second + "," + third + "]}"),
                                            "t.json");
        for (int round = 0; round < 4; ++round) {
          std::vector<TokenId> ids(random() % 12);
          for (TokenId& id : ids) id = static_cast<TokenId>(random() % 8);
          EXPECT_EQ(streamed(t, ids, false), t->decode(ids)) << first << second << third;
        }
      }
    }
  }
}

TEST(Tokenizer, IsSharedBetweenThreads) {
  const auto t = gpt_oss();
  const std::string text = "Threads share a tokenizer, not its scratch memory: ünïcödé 你好 12345.";
  const auto expected = t->encode(text);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 200; ++k) EXPECT_EQ(t->encode(text), expected);
    });
  }
}

// A quadratic step would take minutes instead of milliseconds.
TEST(Tokenizer, AMegabyteOfOneKindTakesLinearTime) {
  const auto t = gpt_oss();
  for (const std::string unit :
       {"a", " ", "7", "\u0301", "\n", "=", "中", "A", "ab ", " \n", "'", "👍"}) {
    std::string text;
    while (text.size() < 1 << 20) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const auto ids = t->encode(text);
    EXPECT_EQ(t->decode(ids), text);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20)) << "of " << unit;
  }
}

// The backtracking limit must grow with the text.
TEST(Tokenizer, LongRunsStayWithinTheBacktrackingLimit) {
  for (const char unit : {'A', ' '}) {
    const std::string text(8 << 20, unit);
    EXPECT_EQ(gpt_oss()->decode(gpt_oss()->encode(text)), text);
  }
}

TEST(Tokenizer, NormalizingAMegabyteOfMarksTakesLinearTime) {
  const auto t = Tokenizer::from_json(small(R"("normalizer":{"type":"NFKC"})"), "t.json");
  std::string text = "a";
  while (text.size() < 1 << 20) text += "\u0301\u0323";
  const auto start = std::chrono::steady_clock::now();
  t->encode(text);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(TokenizerJson, NamesTheFieldThatIsWrong) {
  EXPECT_THAT(error_of(""), HasSubstr("t.json"));
  EXPECT_THAT(error_of("[]"), HasSubstr("should be an object"));
  EXPECT_THAT(error_of("{}"), HasSubstr("'model' is missing"));
  EXPECT_THAT(error_of(R"({"model":{"type":"Bigram"}})"), HasSubstr("'Bigram'"));
  EXPECT_THAT(error_of(R"({"version":"2.0"})"), HasSubstr("version"));
  EXPECT_THAT(error_of(small("", R"("dropout":0.1)")), HasSubstr("model.dropout"));
  EXPECT_THAT(error_of(small(R"("normalizer":{"type":"Magic"})")),
              HasSubstr("normalizer.type: the normalizer 'Magic'"));
  EXPECT_THAT(error_of(small(R"("pre_tokenizer":{"type":"Magic"})")),
              HasSubstr("the pre-tokenizer 'Magic'"));
  EXPECT_THAT(error_of(small(R"("pre_tokenizer":{"type":"UnicodeScripts"})")),
              HasSubstr("not supported"));
  EXPECT_THAT(error_of(small(R"("post_processor":{"type":"Magic"})")),
              HasSubstr("the post-processor 'Magic'"));
  EXPECT_THAT(error_of(small(R"("decoder":{"type":"Magic"})")), HasSubstr("the decoder 'Magic'"));
  EXPECT_THAT(error_of(small(R"("decoder":{"type":"Strip","content":"ab","start":0,"stop":0})")),
              HasSubstr("decoder.content"));
  EXPECT_THAT(
      error_of(small(
          R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated","invert":false})")),
      HasSubstr("pre_tokenizer.pattern.Regex"));
  EXPECT_THAT(
      error_of(small(
          R"("pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Torn","invert":false})")),
      HasSubstr("'Torn'"));
  EXPECT_THAT(error_of(small(R"("normalizer":{"type":"Precompiled","precompiled_charsmap":"!"})")),
              HasSubstr("base64"));
  EXPECT_THAT(
      error_of(small(R"("normalizer":{"type":"Precompiled","precompiled_charsmap":"////fwAA"})")),
      HasSubstr("trie"));
}

TEST(TokenizerJson, ChecksTheVocabulary) {
  const auto model = [](const std::string& vocab, const std::string& merges) {
    return R"({"model":{"type":"BPE","vocab":)" + vocab + R"(,"merges":)" + merges + "}}";
  };
  for (const char* vocab : {"[]", "3", R"({"a":-1})", R"({"a":1e30})", R"({"a":4294967296})",
                            R"({"a":4194304})", R"({"a":"0"})", R"({"a":0.5})", R"({"a":null})"}) {
    EXPECT_THAT(error_of(model(vocab, "[]")), HasSubstr("model.vocab")) << vocab;
  }
  for (const char* merges : {R"(["a z"])", R"(["a"])", R"(["a b c"])", R"([["a"]])", R"([["a",1]])",
                             R"([["a","b"]])", "[3]", "{}"}) {
    EXPECT_THAT(error_of(model(R"({"a":0,"b":1})", merges)), HasSubstr("model.merges")) << merges;
  }
  for (const char* vocab : {R"([["a"]])", R"([["a","b"]])", R"([[1,2]])", "{}"}) {
    EXPECT_THAT(error_of(std::string(R"({"model":{"type":"Unigram","vocab":)") + vocab + "}}"),
                HasSubstr("model.vocab"));
  }
  EXPECT_THAT(error_of(R"({"model":{"type":"Unigram","unk_id":1,"vocab":[["a",0]]}})"),
              HasSubstr("model.unk_id"));
  EXPECT_THAT(
      error_of(small(
          R"("added_tokens":[{"id":-1,"content":"x","special":true,"normalized":false,"lstrip":false,"rstrip":false,"single_word":false}])")),
      HasSubstr("added_tokens[0].id"));
}

TEST(TokenizerJson, DuplicateTokensAndIdsAreAccepted) {
  const auto t = Tokenizer::from_json(
      R"({"model":{"type":"BPE","vocab":{"a":0,"a":1,"b":1,"c":9},"merges":[]}})", "t.json");
  EXPECT_EQ(t->token_to_id("a"), 1);
  EXPECT_EQ(t->encode("abc").size(), 3u);
  EXPECT_EQ(t->vocab_size(), 10);
}

TEST(TokenizerJson, DepthAndLengthOfChainsAreBounded) {
  std::string deep = R"({"type":"NFC"})", wide;
  for (int i = 0; i < 40; ++i) deep = R"({"type":"Sequence","normalizers":[)" + deep + "]}";
  EXPECT_THAT(error_of(small(R"("normalizer":)" + deep)), HasSubstr("t.json"));
  for (int i = 0; i < 5000; ++i)
    wide += std::string(i ? "," : "") + R"({"type":"Digits","individual_digits":true})";
  EXPECT_THAT(
      error_of(small(R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[)" + wide + "]}")),
      HasSubstr("more than"));
}

TEST(TokenizerJson, GrowthIsBounded) {
  std::string stages;
  for (int i = 0; i < 60; ++i) {
    stages += std::string(i ? "," : "") +
              R"({"type":"Replace","pattern":{"String":"a"},"content":"aaaaaaaa"})";
  }
  const auto by_normalizer = Tokenizer::from_json(
      small(R"("normalizer":{"type":"Sequence","normalizers":[)" + stages + "]}"), "t.json");
  EXPECT_THROW(by_normalizer->encode("a"), Error);
  const auto by_decoder = Tokenizer::from_json(
      small(R"("decoder":{"type":"Sequence","decoders":[)" + stages + "]}"), "t.json");
  EXPECT_THROW(by_decoder->decode(std::vector<TokenId>{0}), Error);
}

TEST(Regex, CatastrophicPatternsEndInAnError) {
  const tokenizer::Regex bomb("(a|aa)+$|(a+)+b", "field");
  const std::string text = std::string(5000, 'a') + "c";
  EXPECT_THROW(bomb.for_each_match(text, [](size_t, size_t) {}), Error);
  for (const char* pattern : {"(((((a{1000}){1000}){1000}){1000}){1000})", "(?<=a*)b",
                              "\\p{Nonsense}", "[a", "(?~x)", "\\"}) {
    EXPECT_THROW(tokenizer::Regex(pattern, "field"), Error) << pattern;
  }
  EXPECT_THROW(tokenizer::Regex(std::string(10000, '('), "field"), Error);
  EXPECT_THROW(tokenizer::Regex(std::string(100000, 'a'), "field"), Error);
  EXPECT_THROW(tokenizer::Regex(std::string(5000, '['), "field"), Error);
  EXPECT_THROW(tokenizer::Regex("a" + std::string(5000, '*'), "field"), Error);
}

TEST(Unicode, ReplacesMaximalSubparts) {
  std::string out;
  EXPECT_EQ(unicode::append_replacing_invalid(out, "ab\xE4\xBD", true), 2u);
  EXPECT_EQ(out, "ab");
  EXPECT_EQ(unicode::append_replacing_invalid(out, "\xE4\xBD"), 2u);
  EXPECT_EQ(out, "ab\uFFFD");
}

}  // namespace
}  // namespace mxgpt::text
