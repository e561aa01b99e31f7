// Routes while the model loads, error formats, and requests from web pages.
#include "server/api/api_server.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "base/json.h"

namespace mxgpt::server {
namespace {

using testing::HasSubstr;
using Headers = std::vector<std::pair<std::string, std::string>>;

HttpResponse ask(ApiServer& api, const char* method, const char* path, Headers headers = {},
                 std::string body = {}) {
  HttpRequest request{{.method = method, .path = path, .headers = std::move(headers)}, "", body};
  auto admitted = api.admit(request.head);
  if (auto* refusal = std::get_if<HttpResponse>(&admitted)) return std::move(*refusal);
  return std::get<HttpResponse>(api.handle(std::move(request)));
}

std::string header(const HttpResponse& response, std::string_view name) {
  for (const auto& [key, value] : response.headers)
    if (key == name) return value;
  return {};
}

TEST(ApiServer, AnswersWhileTheModelLoads) {
  ApiServer api(ApiKeys(ClientLimits{}));
  HttpResponse health = ask(api, "GET", "/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(header(health, "retry-after"), "5");
  EXPECT_THAT(health.body, HasSubstr(R"("loading":{"phase":null,"progress":null})"));
  api.set_load_progress({"Reading", 3, 12});
  health = ask(api, "GET", "/health");
  EXPECT_THAT(health.body, HasSubstr(R"("status":"loading")"));
  const auto progress = json::parse(health.body, "health").at("loading").at("progress");
  EXPECT_EQ(progress.to_number<double>(), 0.25);
  const HttpResponse chat = ask(api, "POST", "/v1/chat/completions", {},
                                R"({"messages": [{"role": "user", "content": "Hi"}]})");
  EXPECT_EQ(chat.status, 503);
  EXPECT_EQ(header(chat, "retry-after"), "5");
  EXPECT_THAT(chat.body, HasSubstr("the model is loading"));
  EXPECT_EQ(ask(api, "GET", "/v1/models").status, 503);
  EXPECT_EQ(ask(api, "GET", "/metrics").status, 200);
  EXPECT_EQ(ask(api, "GET", "/").status, 200);
}

TEST(ApiServer, UnknownPathsAndMethodsAreRefused) {
  ApiServer api(ApiKeys(ClientLimits{}));
  EXPECT_EQ(ask(api, "GET", "/v1/models/any").status, 503);
  EXPECT_EQ(ask(api, "GET", "/v1/models/").status, 404);
  EXPECT_EQ(ask(api, "GET", "/v1/models/a/b").status, 404);
  const HttpResponse wrong = ask(api, "DELETE", "/v1/chat/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(header(wrong, "allow"), "POST");
}

TEST(ApiServer, AnthropicRoutesUseItsErrorFormat) {
  ApiServer api(ApiKeys(ClientLimits{}));
  for (const HttpResponse& response :
       {api.transport_error({.path = "/v1/messages"}, 413, "x"), ask(api, "GET", "/v1/messages"),
        ask(api, "POST", "/v1/messages/count_tokens", {}, "{")})
    EXPECT_THAT(response.body, HasSubstr(R"("type":"error")"));
  for (const HttpResponse& response :
       {api.transport_error({}, 431, "x"), api.transport_error({.path = "/v1/responses"}, 413, "x"),
        ask(api, "GET", "/v1/nowhere")})
    EXPECT_THAT(response.body, testing::StartsWith(R"({"error":)"));
}

TEST(ApiServer, EveryRouteIsRegisteredOnce) {
  std::set<std::string> seen;
  for (const Route& route : all_routes())
    EXPECT_TRUE(seen.insert(fmt::format("{} {}", route.method, route.path)).second) << route.path;
  EXPECT_THAT(seen, testing::IsSupersetOf({"POST /v1/chat/completions", "POST /v1/completions",
                                           "POST /v1/responses", "POST /v1/messages",
                                           "GET /v1/models", "POST /tokenize", "GET /health",
                                           "GET /metrics", "GET /openapi.json", "GET /"}));
}

TEST(ApiServer, RoutesWithoutASchemaTakeNoBody) {
  ApiServer api(ApiKeys(ClientLimits{}));
  const auto takes_body = [&](const char* method, const char* path) {
    return std::get<Handler::Admission>(api.admit({.method = method, .path = path})).takes_body;
  };
  EXPECT_FALSE(takes_body("GET", "/health"));
  EXPECT_FALSE(takes_body("DELETE", "/v1/responses/resp_1"));
  EXPECT_TRUE(takes_body("POST", "/v1/chat/completions"));
}

TEST(ApiServer, PrefixCachesAreApartPerKey) {
  const std::string file = testing::TempDir() + "cache_salt_keys.txt";
  std::ofstream(file) << "ada 0123456789abcdef\nbob fedcba9876543210\n";
  const ApiServer separate(ApiKeys(file, {}));
  EXPECT_NE(separate.cache_salt("ada"), separate.cache_salt("bob"));
  EXPECT_EQ(separate.cache_salt("ada"), separate.cache_salt("ada"));
  EXPECT_NE(separate.cache_salt("ada"), "");
  const ApiServer shared(ApiKeys(file, {}), {.share_prefix_cache = true});
  EXPECT_EQ(shared.cache_salt("ada"), shared.cache_salt("bob"));
  const ApiServer open(ApiKeys(ClientLimits{}));
  EXPECT_EQ(open.cache_salt(""), "");
  std::filesystem::remove(file);
}

int status_of(const OriginPolicy& policy, const char* host, const char* origin) {
  ApiServer api(ApiKeys(ClientLimits{}), {.origin_policy = policy});
  Headers headers;
  if (*host) headers.emplace_back("host", host);
  if (*origin) headers.emplace_back("origin", origin);
  return ask(api, "GET", "/metrics", headers).status;
}

TEST(Origins, WebPagesOfOtherOriginsAreRefused) {
  const OriginPolicy rules;
  EXPECT_EQ(status_of(rules, "127.0.0.1:8080", ""), 200);
  EXPECT_EQ(status_of(rules, "127.0.0.1:8080", "http://127.0.0.1:8080"), 200);
  EXPECT_EQ(status_of(rules, "Gpt.Example", "https://gpt.example"), 200);
  EXPECT_EQ(status_of(rules, "127.0.0.1:8080", "http://127.0.0.1:3000"), 403);
  EXPECT_EQ(status_of(rules, "127.0.0.1:8080", "https://evil.example"), 403);
  EXPECT_EQ(status_of(rules, "127.0.0.1:8080", "null"), 403);
  EXPECT_EQ(status_of({.cors_origin = "https://chat.example"}, "x", "https://chat.example"), 200);
  EXPECT_EQ(status_of({.cors_origin = "https://chat.example"}, "x", "https://evil.example"), 403);
  EXPECT_EQ(status_of({.cors_origin = "*"}, "x", "https://evil.example"), 200);
}

TEST(Origins, AHostNameThatResolvesHereIsRefused) {
  const OriginPolicy rules{.loopback_only = true};
  for (const char* host : {"", "localhost", "LOCALHOST:8080", "app.localhost", "127.0.0.1",
                           "127.9.9.9:80", "[::1]:8080", "192.168.1.2"})
    EXPECT_EQ(status_of(rules, host, ""), 200) << host;
  for (const char* host : {"evil.example", "evil.example:8080", "localhost.evil.example",
                           "127.0.0.1.evil.example", "[evil", "x"})
    EXPECT_EQ(status_of(rules, host, ""), 403) << host;
  // The page has the same origin as its host name.
  EXPECT_EQ(status_of(rules, "evil.example:8080", "http://evil.example:8080"), 403);
  EXPECT_EQ(status_of({}, "evil.example", ""), 200);
}

}  // namespace
}  // namespace mxgpt::server
