// /v1/models.
#include "server/api/admin/json_response.h"
#include "server/api/api_server.h"

namespace mxgpt::server {

namespace {

json::object model_object(const ServedModel& served) {
  return {{"id", served.name()},
          {"object", "model"},
          {"created", 0},
          {"owned_by", "mxgpt"},
          {"context_length", served.engine().context()}};
}

HandlerResult list_models(const RequestContext& context) {
  json::array list;
  list.push_back(model_object(*context.api.served_model()));
  return json_response(json::object{{"object", "list"}, {"data", std::move(list)}});
}

HandlerResult get_model(const RequestContext& context) {
  const auto served = context.api.served_model();
  if (context.path_parameter != served->name())
    throw ApiError(404, "unknown model", "model", "model_not_found");
  return json_response(model_object(*served));
}

constexpr Route kRoutes[] = {
    {"GET", "/v1/models", "List the served model", list_models},
    {"GET", "/v1/models/{model}", "Describe the served model", get_model},
};

}  // namespace

MXGPT_ROUTES(models) = kRoutes;

}  // namespace mxgpt::server
