#include "text/chat/harmony/conversation_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/message_of.h"

namespace mxgpt::harmony {
namespace {

std::vector<ToolDescription> functions(std::string_view text) {
  const json::value value = json::parse(text, "tools.json");
  return functions_from_json(json::Node(value, "tools.json:"));
}

std::string error_of(std::string_view text) {
  return message_of([&] { functions(text); });
}

TEST(HarmonyConversationBuilder, ReadsOpenAiAndPlainFunctions) {
  const auto wrapped = functions(
      R"([{"type":"function","function":{"name":"f","description":"Does it.","parameters":{"type":"object"}}}])");
  const auto plain =
      functions(R"([{"name":"f","description":"Does it.","parameters":{"type":"object"}}])");
  for (const auto& read : {wrapped, plain}) {
    ASSERT_EQ(read.size(), 1u);
    EXPECT_EQ(read[0].name, "f");
    EXPECT_EQ(read[0].description, "Does it.");
    EXPECT_EQ(*read[0].parameters, json::parse(R"({"type":"object"})", "test"));
  }
  const auto bare = functions(R"([{"name":"now"}])");
  EXPECT_EQ(bare.at(0).description, "");
  EXPECT_FALSE(bare.at(0).parameters);
}

TEST(HarmonyConversationBuilder, NamesTheFieldOfABadFunction) {
  EXPECT_THAT(error_of(R"({"name":"f"})"), testing::HasSubstr("should be an array"));
  EXPECT_THAT(error_of(R"([{"description":"x"}])"), testing::HasSubstr("'name' is missing"));
  EXPECT_THAT(error_of(R"([{"name":"f"},{"name":"<|start|>"}])"), testing::HasSubstr("[1].name"));
  EXPECT_THAT(error_of(R"([{"name":"a b"}])"), testing::HasSubstr("letters, digits"));
  EXPECT_THAT(error_of(R"([{"name":""}])"), testing::HasSubstr("letters, digits"));
  EXPECT_THAT(error_of("[{\"name\":\"" + std::string(65, 'a') + "\"}]"),
              testing::HasSubstr("1 to 64"));
  EXPECT_THAT(error_of(R"([{"name":"f"},{"name":"f"}])"),
              testing::HasSubstr("duplicate function name"));
  EXPECT_THAT(error_of(R"([{"name":"f","parameters":"x"}])"), testing::HasSubstr("parameters"));
  EXPECT_THAT(error_of(R"([{"type":"web_search","name":"f"}])"),
              testing::HasSubstr("only functions"));
}

TEST(HarmonyConversationBuilder, BeginsWithSystemAndDeveloper) {
  ConversationOptions setup;
  setup.reasoning_effort = ReasoningEffort::kLow;
  EXPECT_EQ(make_conversation(setup).messages.size(), 1u);
  setup.instructions = "Be brief.";
  const Conversation chat = make_conversation(setup);
  ASSERT_EQ(chat.messages.size(), 2u);
  const auto& system = std::get<SystemContent>(chat.messages[0].contents.at(0));
  EXPECT_EQ(system.reasoning_effort, ReasoningEffort::kLow);
  EXPECT_EQ(system.conversation_start_date, std::nullopt);
  EXPECT_EQ(std::get<DeveloperContent>(chat.messages[1].contents.at(0)).instructions, "Be brief.");
}

TEST(HarmonyConversationBuilder, ToolResultAnswersTheCall) {
  Message call = make_message(Role::kAssistant, "{}");
  call.recipient = "functions.f";
  call.channel = "commentary";
  ASSERT_TRUE(call.is_tool_call());
  const Message result = tool_result(call, "42");
  EXPECT_EQ(
      to_json(result),
      json::parse(R"({"role":"tool","name":"functions.f","content":[{"type":"text","text":"42"}],
      "channel":"commentary","recipient":"assistant"})",
                  "test"));
  call.recipient = "user";
  EXPECT_FALSE(call.is_tool_call());
}

std::string conversation_error(std::string_view text) {
  return message_of([&] {
    const json::value value = json::parse(text, "request");
    conversation_from_json(json::Node(value, "request:"));
  });
}

TEST(HarmonyConversation, ErrorsNameTheField) {
  EXPECT_THAT(conversation_error("{}"), testing::HasSubstr("'messages' is missing"));
  EXPECT_THAT(conversation_error(R"({"messages":[{"content":"x"}]})"),
              testing::HasSubstr("'role' is missing"));
  EXPECT_THAT(conversation_error(R"({"messages":[{"role":"root","content":"x"}]})"),
              testing::HasSubstr("messages[0].role"));
  EXPECT_THAT(conversation_error(R"({"messages":[{"role":"user","content":[{"type":"image"}]}]})"),
              testing::HasSubstr("content[0].type"));
  EXPECT_THAT(conversation_error(R"({"messages":[{"role":"user","content":7}]})"),
              testing::HasSubstr("content"));
  EXPECT_THAT(
      conversation_error(R"({"messages":[{"role":"system","content":[{"type":"system_content",
              "reasoning_effort":"Max"}]}]})"),
      testing::HasSubstr("reasoning_effort"));
  EXPECT_EQ(conversation_error(R"({"messages":[{"role":"user","content":"text"}]})"), "no error");
}

}  // namespace
}  // namespace mxgpt::harmony
