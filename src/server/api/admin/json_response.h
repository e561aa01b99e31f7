// Helper of the admin routes.
#pragma once

#include "base/json.h"
#include "server/http/http.h"

namespace mxgpt::server {

inline HttpResponse json_response(const json::value& value) {
  return {.body = json::serialize(value)};
}

}  // namespace mxgpt::server
