// /openapi.json.
#include <fmt/format.h>

#include "base/version.h"
#include "server/api/admin/json_response.h"
#include "server/api/route.h"

namespace mxgpt::server {

namespace {

HandlerResult get_openapi(const RequestContext&) {
  json::object paths;
  for (const Route& route : all_routes()) {
    json::object responses{{"200", {{"description", "the response"}}}};
    json::object operation{{"summary", route.summary}};
    if (route.request_schema.has_body()) {
      operation["requestBody"] = {
          {"required", true},
          {"content", {{"application/json", {{"schema", to_json_schema(route.request_schema)}}}}}};
      for (const auto& [code, what] :
           {std::pair{"400", "invalid field; the error names it"},
            {"404", "unknown model or response"},
            {"408", "the response exceeded the time limit of the server"},
            {"413", "the request body is too large"},
            {"422", "generation failed"},
            {"429", "too many requests; see Retry-After"}})
        responses[code] = {{"description", what}};
    }
    responses["403"] = {{"description", "request from a web page of another origin"}};
    if (!route.is_public) {
      responses["401"] = {{"description", "missing or unknown API key"}};
      // Alternatively none: a server without keys is open.
      operation["security"] = json::array{json::object{{"key", json::array()}}, json::object()};
    }
    responses["503"] = {{"description", "the model is loading, or the server is shutting down"}};
    const std::string_view path = route.path;
    if (const size_t open = path.find('{'); open != path.npos) {
      const std::string_view name = path.substr(open + 1, path.find('}') - open - 1);
      responses["404"] = {{"description", fmt::format("unknown {}", name)}};
      operation["parameters"] = {
          {{"name", name}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}}};
    }
    operation["responses"] = std::move(responses);
    json::value& path_item = paths[path];
    if (!path_item.is_object()) path_item.emplace_object();
    const std::string_view method = route.method;
    path_item.get_object()[method == "GET"    ? "get"
                           : method == "POST" ? "post"
                                              : "delete"] = std::move(operation);
  }
  return json_response(json::object{
      {"openapi", "3.1.0"},
      {"info", {{"title", "mxgpt"}, {"version", version()}}},
      {"components", {{"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}},
      {"paths", std::move(paths)}});
}

constexpr Route kRoutes[] = {{.method = "GET",
                              .path = "/openapi.json",
                              .summary = "This document",
                              .handler = get_openapi,
                              .is_public = true}};

}  // namespace

MXGPT_ROUTES(openapi) = kRoutes;

}  // namespace mxgpt::server
