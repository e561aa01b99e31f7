// Structured output: what an answer or a tool's arguments must be, from a request's fields to a
// grammar.
#pragma once

#include <memory>
#include <string>

#include "server/fields.h"
#include "server/served.h"
#include "server/text_grammar.h"
#include "text/harmony/conversation.h"

namespace mxgpt::server {

extern const Fields kResponseFormatFields;

struct ResponseFormat {
  std::string instructions;                    ///< Harmony's section about it; empty: none
  std::shared_ptr<const TextGrammar> grammar;  ///< null: any text
};

/// Of the field "response_format". Throws ApiError naming the fault of a schema or grammar.
ResponseFormat read_response_format(const Served& served, const json::Node& body);

/// Any JSON object.
ResponseFormat json_object_format(const Served& served, const std::string& param);
/// What the members name, description and schema of `named` say; without a schema, any object.
ResponseFormat json_schema_format(const Served& served, const json::Node& named,
                                  const std::string& param);

/// Of a function's arguments: its schema, or any JSON object.
std::shared_ptr<const TextGrammar> arguments_grammar(const Served& served,
                                                     const harmony::ToolDescription& tool);

}  // namespace mxgpt::server
