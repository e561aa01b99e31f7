#include "text/chat/harmony/tool_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"

namespace mxgpt::harmony {
namespace {

ToolNamespaces tools_of(const json::value& tools) {
  const json::value conversation = json::object{
      {"messages",
       json::array{json::object{
           {"role", "developer"},
           {"content", json::array{json::object{{"type", "developer_content"}, {"tools", tools}}}},
       }}}};
  const Conversation read = conversation_from_json(json::Node(conversation, "test:"));
  return std::get<DeveloperContent>(read.messages.at(0).contents.at(0)).tools;
}

// schemas.jsonl holds the output of openai-harmony; written by make_schemas.py, packed in
// tests/data.
TEST(ToolSchema, EqualsOpenAiHarmonyOnUnusualSchemas) {
  std::ifstream file(MXGPT_FIXTURES "/schemas.jsonl");
  int rows = 0;
  for (std::string line; std::getline(file, line); ++rows) {
    const json::value row = json::parse(line, "schemas.jsonl");
    EXPECT_EQ(render_tools(tools_of(row.at("tools"))), row.at("text").as_string()) << line;
  }
  EXPECT_EQ(rows, 150);
}

json::value nested(int levels, const char* key) {
  json::value schema = json::object{{"type", "string"}};
  for (int i = 0; i < levels; ++i)
    schema = json::object{{"type", "array"}, {key, std::move(schema)}};
  return schema;
}

ToolNamespaces one_function(json::value parameters) {
  return {{"functions", {"functions", std::nullopt, {{"f", "", std::move(parameters)}}}}};
}

TEST(ToolSchema, RejectsDepthThatCouldExhaustTheStack) {
  EXPECT_NO_THROW(render_tools(one_function(nested(kMaxSchemaDepth - 1, "items"))));
  try {
    render_tools(one_function(nested(1000, "items")));
    FAIL() << "should have been rejected";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("functions.f"));
    EXPECT_THAT(e.what(), testing::HasSubstr("nested"));
  }
  json::value deep_default =
      json::object{{"type", "object"}, {"properties", json::object{{"p", json::object{}}}}};
  deep_default.at("properties").at("p").as_object()["default"] = nested(1000, "x");
  EXPECT_THROW(render_tools(one_function(std::move(deep_default))), Error);
}

}  // namespace
}  // namespace mxgpt::harmony
