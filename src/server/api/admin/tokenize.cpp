// /tokenize and /detokenize.
#include "server/api/admin/json_response.h"
#include "server/api/api_server.h"

namespace mxgpt::server {

namespace {

constexpr Field kModel{"model", kString, "name of the model"};

constexpr Field kTokenize[] = {
    Field{"text", kString, "text to encode"}.required(),
    {"add_special_tokens", kBoolean, "add BOS if the model has it; default false"},
    {"parse_special", kBoolean,
     "encode control tokens spelled out in the text as control tokens; default false"},
    kModel,
};

constexpr Field kDetokenize[] = {
    Field{"tokens", kArray, "token ids"}.items(kInteger).required(),
    {"skip_special_tokens", kBoolean, "omit control tokens; default false"},
    kModel,
};

HandlerResult tokenize(const RequestContext& context) {
  const auto served = context.api.served_model(context.body);
  const auto ids = served->tokenizer()->encode(
      context.body["text"].string(),
      {.add_special_tokens = context.body.boolean_or("add_special_tokens", false),
       .parse_special = context.body.boolean_or("parse_special", false)});
  return json_response(
      json::object{{"tokens", json::array(ids.begin(), ids.end())}, {"count", ids.size()}});
}

HandlerResult detokenize(const RequestContext& context) {
  const auto served = context.api.served_model(context.body);
  const json::Node tokens = context.body["tokens"];
  std::vector<text::TokenId> ids;
  for (size_t i = 0; i < tokens.array().size(); ++i) {
    ids.push_back(
        static_cast<text::TokenId>(tokens.at(i).integer(0, served->tokenizer()->vocab_size() - 1)));
  }
  return json_response(
      json::object{{"text", served->tokenizer()->decode(
                                ids, context.body.boolean_or("skip_special_tokens", false))}});
}

constexpr Route kRoutes[] = {
    {"POST", "/tokenize", "Convert text to token ids", tokenize, kTokenize},
    {"POST", "/detokenize", "Convert token ids to text", detokenize, kDetokenize},
};

}  // namespace

MXGPT_ROUTES(tokenize) = kRoutes;

}  // namespace mxgpt::server
