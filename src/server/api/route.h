// The routes: a function each, and one line in the list of api.cpp.
#pragma once

#include <memory>

#include "chat/constraints/grammar.h"
#include "server/api/api_error.h"
#include "server/api/metrics.h"
#include "server/api/schema.h"
#include "server/api/served_model.h"
#include "server/http/http.h"

namespace mxgpt::server {

class ApiServer;

/// A request that has come through: its JSON holds to the route's fields.
struct RequestContext {
  ApiServer& api;
  const HttpRequest& request;
  const json::Node& body;           ///< of a route without fields, an empty object
  std::string_view path_parameter;  ///< the segment of the path that the route has in braces
};

/// Throws ApiError, or Error for what is wrong with the request.
using RouteHandler = HandlerResult (*)(RequestContext& context);

struct Route {
  const char* method;
  const char* path;  ///< in which "{model}" stands for any one segment
  const char* summary;
  RouteHandler handler;
  const Schema* request_schema = nullptr;  ///< of the JSON body; null: no body
  bool is_public = false;                  ///< needs no key
  ErrorShape error_shape = ErrorShape::openai;
};

HandlerResult create_chat_completion(RequestContext& context);
HandlerResult create_completion(RequestContext& context);
HandlerResult create_response(RequestContext& context);
HandlerResult get_response(RequestContext& context);
HandlerResult delete_response(RequestContext& context);
HandlerResult list_input_items(RequestContext& context);
HandlerResult create_message(RequestContext& context);
HandlerResult count_tokens(RequestContext& context);
HandlerResult list_models(RequestContext& context);
HandlerResult get_model(RequestContext& context);
HandlerResult tokenize(RequestContext& context);
HandlerResult detokenize(RequestContext& context);
HandlerResult get_health(RequestContext& context);
HandlerResult get_metrics(RequestContext& context);
HandlerResult get_openapi(RequestContext& context);
HandlerResult get_status_page(RequestContext& context);

extern const Schema kChatSchema, kResponsesSchema, kCompletionSchema, kTokenizeSchema,
    kDetokenizeSchema, kMessagesSchema, kCountTokensSchema;

}  // namespace mxgpt::server
