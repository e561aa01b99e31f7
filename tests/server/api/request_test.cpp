// Validation of requests: JSON, schemas, response items, API keys.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "server/api/api_error.h"
#include "server/api/openai_responses/response_items.h"
#include "server/api/request_json.h"
#include "server/api/schema.h"
#include "server/auth/api_keys.h"
#include "support/message_of.h"

namespace mxgpt::server {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& body) {
  try {
    parse_request(body);
  } catch (const ApiError& e) {
    EXPECT_EQ(e.status, 400);
    return e.what();
  }
  return "accepted";
}

TEST(RequestJson, AmbiguousAndOversizedJsonIsRefused) {
  EXPECT_EQ(refusal(R"({"a": [1, {"b": null}], "c": "\u00e9\ud83d\ude00"})"), "accepted");
  EXPECT_THAT(refusal(R"({"model": 1, "x": {"model": 2}, "model": 3})"),
              HasSubstr("duplicate name 'model'"));
  EXPECT_THAT(refusal(R"({"a": {"b": 1, "\u0062": 2}})"), HasSubstr("duplicate name 'b'"));
  EXPECT_EQ(refusal(R"([{"a": 1}, {"a": 2}])"), "the request body must be a JSON object");
  const std::string deep(10000, '[');
  EXPECT_THAT(refusal("{\"a\":" + deep), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal("{\"a\": \"\xff\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(R"({"a": "\ud800"})"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(R"({"a": NaN})"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(R"({"a": 1} {})"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(""), HasSubstr("not valid JSON"));
  std::string many = "{\"a\":[0";
  for (size_t i = 0; i < kMaxJsonValues; ++i) many += ",0";
  EXPECT_THAT(refusal(many + "]}"), HasSubstr("more than 1000000 values"));
}

constexpr Field kInner[] = {Field{"x", kInteger, "a number", 0, 9}.required()};
constexpr Field kPerson[] = {
    Field{"name", kString, "a name"}.enum_("ada|bob").required(),
    Field{"list", kArray, "points"}.max_size(2).items(kObject).properties(kInner),
    Field{"either", kString | kNumber, "both", -1, 1},
    Field{"free", kObject, "anything"},
    Field{"old", kBoolean, "of others"}.ignored(),
};

std::string validation_error(const char* text) {
  const json::value value = json::parse(text, "test");
  try {
    validate_request(value.get_object(), kPerson);
  } catch (const ApiError& e) {
    EXPECT_EQ(e.status, 400);
    return fmt::format("{} | {}", e.param, e.what());
  }
  return "fine";
}

constexpr Field kCircle[] = {Field{"radius", kNumber, ""}.required()};
constexpr Field kSquare[] = {Field{"side", kNumber, ""}.required()};
constexpr Variant kShapes[] = {{"circle", kCircle}, {"square", kSquare}};
constexpr Field kDrawing[] = {
    Field{"shapes", kArray, ""}.items(kObject).any_of(kShapes),
    Field{"frame", kObject, ""}.any_of(kShapes).type_optional(),
};

TEST(Schema, VariantsAreSelectedByType) {
  const auto fault = [](const char* text) -> std::string {
    try {
      validate_request(json::parse(text, "test").get_object(), kDrawing);
    } catch (const ApiError& e) {
      return e.what();
    }
    return "fine";
  };
  EXPECT_EQ(fault(R"({"shapes": [{"type": "square", "side": 1}], "frame": {"radius": 2}})"),
            "fine");
  EXPECT_EQ(fault(R"({"frame": {"type": "square", "side": 2}})"), "fine");
  EXPECT_EQ(fault(R"({"shapes": [{"side": 1}]})"), "shapes[0].type: is missing");
  EXPECT_EQ(fault(R"({"shapes": [{"type": 1}]})"), "shapes[0].type: should be of type string");
  EXPECT_EQ(fault(R"({"shapes": [{"type": "line"}]})"),
            "shapes[0].type: 'line' is not one of circle, square");
  EXPECT_EQ(fault(R"({"shapes": [{"type": "circle", "side": 1}]})"),
            "shapes[0].side: this field is not supported");
  EXPECT_EQ(fault(R"({"frame": {"type": "square", "radius": 1}})"),
            "frame.radius: this field is not supported");
  const std::string schema = json::serialize(to_json_schema(kDrawing));
  EXPECT_THAT(schema, HasSubstr(R"("type":{"const":"circle"}},"required":["radius","type"])"));
}

TEST(Schema, EveryFaultNamesItsField) {
  EXPECT_EQ(
      validation_error(R"({"name": "ada", "list": [{"x": 9.0}], "either": -1, "free": {"y": []}})"),
      "fine");
  EXPECT_EQ(validation_error(R"({"name": "bob", "list": null, "unheard": null})"), "fine");
  EXPECT_EQ(validation_error(R"({"name": "bob", "unheard": 1})"),
            "unheard | unheard: this field is not supported");
  EXPECT_EQ(validation_error("{}"), "name | name: is missing");
  EXPECT_EQ(validation_error(R"({"name": "eve"})"), "name | name: 'eve' is not one of ada, bob");
  EXPECT_EQ(validation_error(R"({"name": "ada", "list": [{"x": 1}, {}]})"),
            "list[1].x | list[1].x: is missing");
  EXPECT_EQ(validation_error(R"({"name": "ada", "list": [3]})"),
            "list[0] | list[0]: should be of type object");
  EXPECT_EQ(validation_error(R"({"name": "ada", "list": [{"x": 10}]})"),
            "list[0].x | list[0].x: 10 is outside 0 to 9");
  EXPECT_EQ(validation_error(R"({"name": "ada", "list": [{"x": 0.5}]})"),
            "list[0].x | list[0].x: should be of type integer");
  EXPECT_EQ(validation_error(R"({"name": "ada", "list": [{"x":1},{"x":1},{"x":1}]})"),
            "list | list: has more than 2 entries");
  EXPECT_THAT(validation_error(R"({"name": "ada", "either": 1e999})"), HasSubstr("either"));
}

TEST(Schema, JsonSchemaMatchesTheSchema) {
  const json::object schema = to_json_schema(kPerson);
  EXPECT_EQ(json::serialize(schema.at("required")), R"(["name"])");
  const json::object& properties = schema.at("properties").as_object();
  EXPECT_EQ(json::serialize(properties.at("name").at("enum")), R"(["ada","bob"])");
  EXPECT_EQ(json::serialize(properties.at("list").at("items").at("required")), R"(["x"])");
  EXPECT_EQ(properties.at("either").at("anyOf").as_array().size(), 2);
}

TEST(ResponseItems, AreNormalized) {
  const json::array items = normalize_items(json::parse(
      R"([{"role": "user", "content": "a"}, {"type": null, "role": "assistant", "content": "b"},
          {"type": "reasoning"}, {"type": "function_call", "call_id": "c", "name": "f",
          "arguments": "{}"}, {"type": "function_call_output", "call_id": "c", "output": "d"}])",
      "test"));
  std::string found;
  for (const json::value& item : items) {
    EXPECT_EQ(item.at("status").as_string(), "completed");
    const std::string id(item.at("id").as_string());
    found +=
        fmt::format("{} {} ", std::string(item.at("type").as_string()), id.substr(0, id.find('_')));
  }
  EXPECT_EQ(found,
            "message msg message msg reasoning rs function_call fc function_call_output fco ");
  EXPECT_EQ(items[0].at("content").at(0).at("type").as_string(), "input_text");
  EXPECT_EQ(items[1].at("content").at(0).at("type").as_string(), "output_text");
}

// Adding members to an object may move the existing ones.
TEST(ResponseItems, KeepTheirTextWithAnyOptionalMembers) {
  const std::vector<std::pair<const char*, const char*>> optional = {
      {"type", "message"}, {"id", "msg_1"}, {"status", "completed"}, {"phase", "commentary"}};
  for (unsigned given = 0; given < 1u << optional.size(); ++given) {
    json::object item{{"role", "user"}, {"content", "a"}};
    for (size_t i = 0; i < optional.size(); ++i)
      if (given >> i & 1) item[optional[i].first] = optional[i].second;
    const json::array items = normalize_items(json::array{std::move(item)});
    EXPECT_EQ(json::serialize(items[0].at("content")), R"([{"type":"input_text","text":"a"}])")
        << given;
  }
}

class KeysTest : public testing::Test {
 protected:
  ApiKeys keys(const std::string& text) {
    std::ofstream(path_) << text;
    return ApiKeys(path_, {});
  }
  std::string fault(const std::string& text) {
    return message_of([&] { keys(text); });
  }
  ~KeysTest() override { std::filesystem::remove(path_); }
  const std::filesystem::path path_ =
      testing::TempDir() + fmt::format("keys_test-{}.txt", ::getpid());
};

TEST_F(KeysTest, ReadsAFile) {
  const ApiKeys some = keys("# comment\n\nada 0123456789abcdef 60 2\nbob fedcba9876543210\n");
  EXPECT_EQ(some.find("0123456789abcdef")->name(), "ada");
  EXPECT_EQ(some.find("fedcba9876543210")->name(), "bob");
  for (const char* wrong : {"", "0123456789abcde", "0123456789abcdeF", "ada"})
    EXPECT_EQ(some.find(wrong), nullptr) << wrong;
  EXPECT_NE(ApiKeys(ClientLimits{}).find("whatever"), nullptr);
}

TEST_F(KeysTest, ErrorsNameTheLine) {
  EXPECT_THAT(fault("ada\n"), HasSubstr(":1: missing key"));
  EXPECT_THAT(fault("\nada short\n"), HasSubstr(":2: key is shorter"));
  EXPECT_THAT(fault("ada 0123456789abcdef x\n"), HasSubstr("'x' is not a limit"));
  EXPECT_THAT(fault("ada 0123456789abcdef 1 -1\n"), HasSubstr("'-1' is not a limit"));
  EXPECT_THAT(fault("ada 0123456789abcdef 1 1 1\n"), HasSubstr("unexpected word '1'"));
  EXPECT_THAT(fault("ada 0123456789abcdef\nbob 0123456789abcdef\n"),
              HasSubstr(":2: duplicate key"));
  EXPECT_THAT(fault("ada 0123456789abcdef\nada 1123456789abcdef\n"),
              HasSubstr(":2: duplicate name 'ada'"));
  EXPECT_THAT(fault("# none\n"), HasSubstr("contains no key"));
}

TEST(ClientLimits, RateAndConcurrency) {
  const auto start = Client::Clock::time_point() + std::chrono::hours(1);
  const auto is_admitted = [](const auto& begun) { return begun.index() == 0; };
  Client rate("ada", {.requests_per_minute = 2});
  EXPECT_TRUE(is_admitted(rate.acquire(start)));
  EXPECT_TRUE(is_admitted(rate.acquire(start)));
  const auto refused = rate.acquire(start);
  ASSERT_FALSE(is_admitted(refused));
  EXPECT_EQ(std::get<Client::LimitExceeded>(refused).retry_after, 30);
  EXPECT_FALSE(is_admitted(rate.acquire(start + std::chrono::seconds(29))));
  EXPECT_TRUE(is_admitted(rate.acquire(start + std::chrono::seconds(31))));

  Client concurrent("bob", {.concurrent_requests = 1});
  {
    const auto lease = concurrent.acquire(start);
    EXPECT_TRUE(is_admitted(lease));
    EXPECT_FALSE(is_admitted(concurrent.acquire(start)));
  }
  EXPECT_TRUE(is_admitted(concurrent.acquire(start)));
}

}  // namespace
}  // namespace mxgpt::server
