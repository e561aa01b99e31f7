// The routes: a function each, and one line in the list of api.cpp.
#pragma once

#include <memory>

#include "server/api_error.h"
#include "server/fields.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/served.h"
#include "server/text_grammar.h"

namespace mxgpt::server {

class Api;

/// A request that has come through: its JSON holds to the route's fields.
struct Call {
  Api& api;
  const HttpRequest& request;
  const json::Node& body;      ///< of a route without fields, an empty object
  std::string_view parameter;  ///< the segment of the path that the route has in braces
};

/// Throws ApiError, or Error for what is wrong with the request.
using RouteFunction = Answer (*)(Call& call);

struct Route {
  const char* method;
  const char* path;  ///< in which "{model}" stands for any one segment
  const char* summary;
  RouteFunction function;
  const Fields* fields = nullptr;  ///< of the JSON body; null: no body
  bool open = false;               ///< needs no key
  ErrorShape errors = ErrorShape::openai;
};

Answer chat_completions(Call& call);
Answer completions(Call& call);
Answer responses(Call& call);
Answer response(Call& call);
Answer delete_response(Call& call);
Answer response_input(Call& call);
Answer messages(Call& call);
Answer count_tokens(Call& call);
Answer models(Call& call);
Answer model(Call& call);
Answer tokenize(Call& call);
Answer detokenize(Call& call);
Answer health(Call& call);
Answer metrics(Call& call);
Answer openapi(Call& call);
Answer status_page(Call& call);

extern const Fields kChatFields, kResponsesFields, kCompletionFields, kTokenizeFields,
    kDetokenizeFields, kMessagesFields, kCountTokensFields;

}  // namespace mxgpt::server
