// The field "response_format" of /v1/chat/completions.
#pragma once

#include "chat/response_format.h"
#include "server/api/served_model.h"

namespace mxgpt::server {

/// Throws ApiError for a missing member, chat::RequestError for a fault of a schema or grammar.
chat::ResponseFormat parse_response_format(const ServedModel& served, const json::Node& body);

/// Reads name, description and schema; without a schema, any object is allowed.
chat::ResponseFormat json_schema_format(const ServedModel& served, const json::Node& named,
                                        const std::string& field);

}  // namespace mxgpt::server
