// A route: method, path, schema and handler. A file declares its routes with MXGPT_ROUTES, and the
// build collects them into all_routes() (cmake/ServerRoutes.cmake): a new route is one new file.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "server/api/api_error.h"
#include "server/api/schema.h"
#include "server/http/http.h"

namespace mxgpt::server {

class ApiServer;

/// An admitted request whose JSON satisfies the schema of its route.
struct RequestContext {
  ApiServer& api;
  const HttpRequest& request;
  const json::Node& body;           ///< an empty object for a route without a body
  std::string_view path_parameter;  ///< the segment of the path that the route has in braces
};

/// Throws ApiError, or Error for invalid input.
using RouteHandler = HandlerResult (*)(const RequestContext& context);

struct Route {
  const char* method;
  const char* path;  ///< "{model}" stands for any one segment
  const char* summary;
  RouteHandler handler;
  Schema request_schema = Schema::no_body();
  bool is_public = false;  ///< needs no API key
  ErrorShape error_shape = ErrorShape::openai;
};

/// `MXGPT_ROUTES(models) = kRoutes;` in namespace mxgpt::server, with `constexpr Route kRoutes[]`.
#define MXGPT_ROUTES(name)                           \
  extern const std::span<const Route> name##_routes; \
  const std::span<const Route> name##_routes

/// The routes of all files.
const std::vector<Route>& all_routes();

}  // namespace mxgpt::server
