// Compares with harmony-reference.jsonl, made by openai-harmony with the gpt-oss tokenizer.
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "base/json.h"
#include "text/chat/harmony/conversation_builder.h"
#include "text/chat/harmony/encoding.h"
#include "text/chat/harmony/parser.h"

namespace mxgpt::harmony {
namespace {

std::vector<json::value> reference_rows(std::string_view kind) {
  std::vector<json::value> rows;
  std::ifstream file(MXGPT_FIXTURES "/harmony-reference.jsonl");
  for (std::string line; std::getline(file, line);) {
    json::value row = json::parse(line, "harmony-reference.jsonl");
    if (row.at("kind").as_string() == kind) rows.push_back(std::move(row));
  }
  return rows;
}

std::shared_ptr<const HarmonyEncoding> gpt_oss() {
  static const auto encoding = std::make_shared<const HarmonyEncoding>(
      text::Tokenizer::load(MXGPT_FIXTURES "/gpt-oss-tokenizer/tokenizer.json"));
  return encoding;
}

std::vector<text::TokenId> ids(const json::value& list) {
  std::vector<text::TokenId> out;
  for (const auto& id : list.as_array()) out.push_back(id.to_number<text::TokenId>());
  return out;
}

Conversation conversation_of(const json::value& row) {
  return conversation_from_json(json::Node(row.at("conversation"), "reference:"));
}

TEST(HarmonyReference, RendersEveryConversation) {
  const auto rows = reference_rows("render");
  ASSERT_EQ(rows.size(), 60u);
  for (size_t i = 0; i < rows.size(); ++i) {
    SCOPED_TRACE(i);
    const Conversation conversation = conversation_of(rows[i]);
    const auto completion = gpt_oss()->render_for_completion(conversation);
    EXPECT_EQ(gpt_oss()->tokenizer()->decode(completion),
              rows[i].at("completion_text").as_string());
    EXPECT_EQ(completion, ids(rows[i].at("completion_tokens")));
    EXPECT_EQ(gpt_oss()->render_for_training(conversation), ids(rows[i].at("training_tokens")));
    EXPECT_EQ(gpt_oss()->render_for_completion(conversation, AnalysisPolicy::kKeep),
              ids(rows[i].at("keep_analysis_tokens")));
  }
}

TEST(HarmonyReference, JsonOfConversationsRoundTrips) {
  for (const auto& row : reference_rows("render")) {
    EXPECT_EQ(to_json(conversation_of(row)), row.at("conversation"));
  }
}

TEST(HarmonyReference, BuiltinToolsEqualTheReference) {
  ConversationOptions setup;
  setup.browser = setup.python = true;
  const json::value own = to_json(make_conversation(setup).messages.at(0));
  std::set<std::string> seen;
  for (const auto& row : reference_rows("render")) {
    const auto& system =
        row.at("conversation").at("messages").at(0).at("content").at(0).as_object();
    if (system.at("type").as_string() != "system_content" || !system.contains("tools")) continue;
    for (const auto& tool : system.at("tools").as_object()) {
      EXPECT_EQ(own.at("content").at(0).at("tools").at(tool.key()), tool.value());
      seen.insert(tool.key());
    }
  }
  EXPECT_EQ(seen, (std::set<std::string>{"browser", "python"}));
}

json::value or_null(const std::optional<std::string>& text) {
  return text ? json::value(*text) : json::value(nullptr);
}

void expect_parse(const json::value& row, HarmonyParser::Mode mode) {
  HarmonyParser parser(gpt_oss(), mode);
  const auto& stream = row.at("stream").as_array();
  for (size_t i = 0; i < stream.size(); ++i) {
    const std::string delta = parser.feed(stream[i].at(0).to_number<text::TokenId>());
    const Message* open = parser.open_message() ? &parser.open_message()->message : nullptr;
    const json::array step = {stream[i].at(0), open ? or_null(open->channel) : json::value(nullptr),
                              open ? or_null(open->recipient) : json::value(nullptr),
                              delta.empty() ? json::value(nullptr) : json::value(delta)};
    EXPECT_EQ(json::value(step), stream[i]) << "token " << i;
  }
  parser.finish();
  json::array messages;
  for (const ParsedMessage& parsed : parser.messages()) messages.push_back(to_json(parsed.message));
  EXPECT_EQ(json::value(messages), row.at("messages"));
}

TEST(HarmonyReference, ParsesEveryStepInBothModes) {
  const auto rows = reference_rows("parse");
  ASSERT_EQ(rows.size(), 10u);
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.at("text").as_string()));
    ASSERT_TRUE(row.at("error").is_null());
    expect_parse(row, HarmonyParser::Mode::kStrict);
    expect_parse(row, HarmonyParser::Mode::kTolerant);
  }
}

// Render, parse, render gives the same tokens: no message is lost or altered.
TEST(HarmonyReference, RenderedConversationsParseAndRenderBack) {
  for (const auto& row : reference_rows("render")) {
    const auto tokens = gpt_oss()->render_for_training(conversation_of(row));
    for (const auto mode : {HarmonyParser::Mode::kStrict, HarmonyParser::Mode::kTolerant}) {
      HarmonyParser parser(gpt_oss(), mode);
      for (const text::TokenId id : tokens) parser.feed(id);
      parser.finish();
      Conversation parsed;
      for (const auto& [message, end] : parser.messages()) parsed.messages.push_back(message);
      EXPECT_EQ(gpt_oss()->render_for_training(parsed, AnalysisPolicy::kKeep), tokens);
    }
  }
}

}  // namespace
}  // namespace mxgpt::harmony
