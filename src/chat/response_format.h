// Structured output: what an answer or a tool's arguments must be, from a request's fields to a
// grammar.
#pragma once

#include <memory>
#include <string>

#include "chat/constraints/grammar.h"
#include "server/api/schema.h"
#include "server/api/served_model.h"
#include "text/chat/harmony/conversation.h"

namespace mxgpt::chat {

extern const server::Schema kResponseFormatFields;

struct ResponseFormat {
  std::string instructions;                ///< Harmony's section about it; empty: none
  std::shared_ptr<const Grammar> grammar;  ///< null: any text
};

/// Of the field "response_format". Throws ApiError naming the fault of a schema or grammar.
ResponseFormat parse_response_format(const server::ServedModel& served, const json::Node& body);

/// Any JSON object.
ResponseFormat json_object_format(const server::ServedModel& served, const std::string& param);
/// What the members name, description and schema of `named` say; without a schema, any object.
ResponseFormat json_schema_format(const server::ServedModel& served, const json::Node& named,
                                  const std::string& param);

/// Of a function's arguments: its schema, or any JSON object.
std::shared_ptr<const Grammar> tool_arguments_grammar(const server::ServedModel& served,
                                                      const harmony::ToolDescription& tool);

}  // namespace mxgpt::chat
