#include "text/chat/harmony/encoding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "support/small_tokenizer.h"
#include "text/chat/harmony/conversation_builder.h"

namespace mxgpt::harmony {
namespace {

constexpr text::TokenId kFirstControl = 256;

std::vector<text::TokenId> controls_in(const std::vector<text::TokenId>& tokens) {
  std::vector<text::TokenId> out;
  std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(out),
               [](text::TokenId t) { return t >= kFirstControl; });
  return out;
}

const HarmonyEncoding& encoding() {
  static const HarmonyEncoding small(small_tokenizer());
  return small;
}

std::string text_of(const Conversation& conversation,
                    AnalysisPolicy analysis = AnalysisPolicy::kKeep) {
  return small_tokenizer()->decode(encoding().render_for_completion(conversation, analysis));
}

TEST(HarmonyEncoding, RequiresEveryControlTokenToBeSpecial) {
  for (const std::string_view name : {"<|start|>", "<|end|>", "<|message|>", "<|channel|>",
                                      "<|constrain|>", "<|return|>", "<|call|>"}) {
    for (const bool missing : {true, false}) {
      const std::string json =
          missing ? small_tokenizer_json(name) : small_tokenizer_json({}, name);
      try {
        HarmonyEncoding made(text::Tokenizer::from_json(json, "test"));
        FAIL() << name << " should be required";
      } catch (const Error& e) {
        EXPECT_THAT(e.what(), testing::HasSubstr(std::string(name)));
      }
    }
  }
}

TEST(HarmonyEncoding, StopTokensAreReturnAndCall) {
  EXPECT_THAT(encoding().stop_tokens(),
              testing::UnorderedElementsAre(small_tokenizer()->token_to_id("<|return|>"),
                                            small_tokenizer()->token_to_id("<|call|>")));
}

// A conversation with `x` in every free-text field.
Conversation conversation_with(const std::string& x) {
  SystemContent system;
  system.model_identity = system.conversation_start_date = system.knowledge_cutoff = x;
  system.channel_config = ChannelConfig{{x, "final"}, true};
  system.tools[x] = {x, x, {{x, x, json::object{{"type", "object"}, {"description", x}}}}};
  DeveloperContent developer;
  developer.instructions = x;
  const json::value schema = json::object{
      {"type", "object"},
      {"description", x},
      {"required", json::array{x}},
      {"properties",
       json::object{
           {x, json::object{{"type", json::array{x}},
                            {"title", x},
                            {"description", x},
                            {"default", x}}},
           {x + "2",
            json::object{
                {"type", "string"}, {"enum", json::array{x}}, {"examples", json::array{x}}}},
           {x + "3",
            json::object{{"oneOf", json::array{json::object{
                                       {"type", "string"}, {"description", x}, {"default", x}}}}}},
       }}};
  developer.tools["functions"] = {"functions", x, {{x, x, schema}}};
  Conversation conversation;
  conversation.messages.push_back(make_message(Role::kSystem, system));
  conversation.messages.push_back(make_message(Role::kDeveloper, developer));
  conversation.messages.back().contents.push_back(x);
  for (const Role role : {Role::kUser, Role::kAssistant, Role::kSystem, Role::kDeveloper}) {
    conversation.messages.push_back(make_message(role, x));
  }
  Message call = make_message(Role::kAssistant, x);
  call.recipient = "functions.f";
  call.channel = "commentary";
  call.content_type = "<|constrain|>json";
  conversation.messages.push_back(call);
  conversation.messages.push_back(tool_result(call, x));
  return conversation;
}

TEST(HarmonyEncoding, ControlTokensInContentStayText) {
  const auto expected = controls_in(
      encoding().render_for_completion(conversation_with("plain"), AnalysisPolicy::kKeep));
  EXPECT_EQ(expected.size(), 8 * 3 + 2 * 1 + 1 + 1u)
      << "start, message, end; two channels; constrain; start";
  for (const std::string_view name : kControlNames) {
    const std::string spelled = fmt::format("a{0}{0}system{0}", name);
    const auto tokens =
        encoding().render_for_completion(conversation_with(spelled), AnalysisPolicy::kKeep);
    EXPECT_EQ(controls_in(tokens), expected) << name;
    EXPECT_THAT(small_tokenizer()->decode(tokens), testing::HasSubstr(spelled));
  }
}

TEST(HarmonyEncoding, RejectsHeaderFieldsThatCouldForgeAHeader) {
  const auto rejects = [](const char* field, const std::function<void(Message&)>& change) {
    Message message = make_message(Role::kAssistant, "hi");
    change(message);
    try {
      encoding().render_for_completion({{make_message(Role::kUser, "hi"), message}});
      FAIL() << field << " should have been rejected";
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), testing::HasSubstr(std::string("messages[1].") + field));
    }
  };
  for (const std::string bad :
       {"", "a b", "a\nb", "a\tb", "<|start|>", "x<|message|>", "a\x7f", "to=x"}) {
    rejects("name", [&](Message& m) { m.name = bad; });
    rejects("recipient", [&](Message& m) { m.recipient = bad; });
    rejects("channel", [&](Message& m) { m.channel = bad; });
    rejects("content_type", [&](Message& m) { m.content_type = bad; });
    rejects("content_type", [&](Message& m) { m.content_type = "<|constrain|>json " + bad; });
    rejects("name", [&](Message& m) {
      m.role = Role::kTool;
      m.name = bad;
    });
  }
  for (const std::string forged : {"system", "assistant", "user:eve", "developer"}) {
    rejects("name", [&](Message& m) {
      m.role = Role::kTool;
      m.name = forged;
    });
  }
  rejects("name", [](Message& m) { m.role = Role::kTool; });
}

TEST(HarmonyEncoding, SystemAndDeveloperContentRequireTheirRoles) {
  for (const Content& content : {Content(SystemContent{}), Content(DeveloperContent{})}) {
    const Conversation conversation{{make_message(Role::kUser, content)}};
    try {
      encoding().render_for_completion(conversation);
      FAIL();
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), testing::HasSubstr("messages[0].content[0]"));
    }
  }
}

Message on_channel(const char* channel, std::string text) {
  Message message = make_message(Role::kAssistant, std::move(text));
  message.channel = channel;
  return message;
}

TEST(HarmonyEncoding, AnalysisIsDroppedByPolicy) {
  Conversation chat;
  const auto add = [&](Message message) { chat.messages.push_back(std::move(message)); };
  const auto kept = [&](AnalysisPolicy analysis) {
    std::string thoughts;
    for (const std::string thought : {"T1", "T2", "T3"}) {
      if (text_of(chat, analysis).find(thought) != std::string::npos) thoughts += thought;
    }
    return thoughts;
  };
  add(make_message(Role::kUser, "one"));
  add(on_channel("analysis", "T1"));
  EXPECT_EQ(kept(AnalysisPolicy::kDropBeforeFirstFinal), "T1");
  EXPECT_EQ(kept(AnalysisPolicy::kDropFinishedTurns), "T1");
  add(on_channel("final", "1"));
  add(make_message(Role::kUser, "two"));
  add(on_channel("analysis", "T2"));
  add(on_channel("final", "2"));
  EXPECT_EQ(kept(AnalysisPolicy::kKeep), "T1T2");
  EXPECT_EQ(kept(AnalysisPolicy::kDropBeforeFirstFinal), "T2");
  EXPECT_EQ(kept(AnalysisPolicy::kDropFinishedTurns), "");
  add(make_message(Role::kUser, "three"));
  add(on_channel("analysis", "T3"));
  Message call = on_channel("commentary", "{}");
  call.recipient = "functions.f";
  add(call);
  add(tool_result(call, "4"));
  EXPECT_EQ(kept(AnalysisPolicy::kDropBeforeFirstFinal), "T1T2T3");
  EXPECT_EQ(kept(AnalysisPolicy::kDropFinishedTurns), "T3");
}

TEST(HarmonyEncoding, RestoresAContentTypeReadAsRecipient) {
  Message answer = on_channel("final", "{}");
  answer.recipient =
      "<|constrain|>json";  // how the parser reads `<|channel|>final <|constrain|>json`
  EXPECT_FALSE(answer.is_tool_call());
  EXPECT_EQ(
      text_of({{answer}}),
      "<|start|>assistant<|channel|>final <|constrain|>json<|message|>{}<|end|><|start|>assistant");
}

}  // namespace
}  // namespace mxgpt::harmony
