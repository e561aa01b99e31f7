#include "chat/prepare_chat.h"

#include <gmock/gmock.h>

#include "chat/request_error.h"
#include "support/small_tokenizer.h"

namespace mxgpt::chat {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using Kind = ChatItem::Kind;

const ChatModel& harmony_model() {
  static const ChatModel one({.name = "model",
                              .tokenizer = harmony::small_tokenizer(),
                              .vocabulary = 300,
                              .date = "2026-11-23"});
  return one;
}

std::string prompt_of(const ChatRequest& request, int64_t context = 10'000) {
  return harmony::small_tokenizer()->decode(
      prepare_chat(harmony_model(), request, context).request.prompt);
}

ChatRequest conversation(std::vector<ChatItem> items) {
  return {.field = "messages", .items = std::move(items)};
}

std::string error_of(const ChatRequest& request) {
  try {
    prepare_chat(harmony_model(), request, 10'000);
  } catch (const RequestError& e) {
    return e.what();
  }
  return "prepared";
}

TEST(PrepareChat, FillsInTheRequest) {
  ChatRequest request = conversation(
      {{.kind = Kind::instructions, .text = "Be brief."}, {.kind = Kind::user, .text = "Hi."}});
  request.choices = 3;
  request.max_tokens = 7;
  request.sampling.seed = 5;
  request.top_logprobs = 2;
  const PreparedChat prepared = prepare_chat(harmony_model(), request, 10'000);
  EXPECT_EQ(prepared.request.choices, 3);
  EXPECT_EQ(prepared.request.max_tokens, 7);
  EXPECT_EQ(prepared.request.sampling.seed, 5u);
  EXPECT_EQ(prepared.request.top_logprobs, 2);
  EXPECT_EQ(prepared.request.constraints.size(), 3u);
  EXPECT_EQ(prepared.parsers.size(), 3u);
  EXPECT_EQ(prepared.request.stop_tokens, harmony_model().stop_tokens());
  const std::string prompt = prompt_of(request);
  EXPECT_THAT(prompt, HasSubstr("# Instructions\n\nBe brief."));
  EXPECT_THAT(prompt, EndsWith("<|start|>user<|message|>Hi.<|end|><|start|>assistant"));
}

TEST(PrepareChat, PairsCallsWithResults) {
  const ChatItem question{.kind = Kind::user, .text = "?"};
  const ChatItem call{.kind = Kind::tool_call, .text = "{}", .field = "c", .id = "1", .name = "f"};
  const ChatItem result{.kind = Kind::tool_result, .text = "ok", .field = "r", .id = "1"};
  EXPECT_THAT(prompt_of(conversation({question, call, result})),
              HasSubstr("to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>"
                        "<|start|>functions.f to=assistant<|channel|>commentary<|message|>ok"));
  EXPECT_EQ(error_of(conversation({question, call})), "c: no result of the call '1' follows");
  EXPECT_EQ(error_of(conversation({question, result})), "r: no call '1' precedes this result");
  EXPECT_EQ(error_of(conversation({question, call, result, result})),
            "r: is a second result of the same call");
}

TEST(PrepareChat, NeedsMoreThanInstructions) {
  EXPECT_EQ(error_of(conversation({{.kind = Kind::instructions, .text = "Be brief."}})),
            "messages: needs a message other than instructions");
}

TEST(PrepareChat, TruncationDropsTheOldestTurns) {
  std::vector<ChatItem> items{{.kind = Kind::instructions, .text = "Be brief."}};
  for (int i = 0; i < 50; ++i) {
    items.push_back({.kind = Kind::user, .text = "question " + std::to_string(i)});
    items.push_back({.kind = Kind::assistant, .text = std::string(100, 'a')});
  }
  items.push_back({.kind = Kind::user, .text = "last"});
  ChatRequest request = conversation(std::move(items));
  EXPECT_THAT(prompt_of(request, 2000), HasSubstr("question 0<"));
  request.truncate = true;
  request.max_tokens = 200;
  const std::string prompt = prompt_of(request, 2000);
  EXPECT_THAT(prompt, testing::Not(HasSubstr("question 0<")));
  EXPECT_THAT(prompt, HasSubstr("question 49<"));
  EXPECT_THAT(prompt, HasSubstr("Be brief."));
  EXPECT_THAT(prompt, HasSubstr("last"));
  EXPECT_LE(prepare_chat(harmony_model(), request, 2000).request.prompt.size(), 1800u);
}

TEST(PrepareChat, FeaturesThatTheFormatLacksAreNamed) {
  ChatRequest request = conversation({{.kind = Kind::user, .text = "Hi."}});
  request.reasoning = false;
  EXPECT_EQ(error_of(request), "reasoning: models that use Harmony always reason");
}

TEST(ToolConfig, RequiresOnlyWhatIsDeclared) {
  ToolConfig tools;
  tools.declare({harmony::ToolDescription{.name = "f"}, harmony::ToolDescription{.name = "g"}});
  EXPECT_THROW(tools.require({"h"}, "tool_choice"), RequestError);
  EXPECT_FALSE(tools.call_required);
  tools.require({"g"}, "tool_choice");
  EXPECT_THAT(tools.allowed, testing::ElementsAre("g"));
  EXPECT_TRUE(tools.call_required);
  EXPECT_EQ(tools.declared.size(), 2u);
  tools.disable();
  EXPECT_TRUE(tools.declared.empty());
  EXPECT_THROW(tools.require_any("tool_choice"), RequestError);
}

}  // namespace
}  // namespace mxgpt::chat
