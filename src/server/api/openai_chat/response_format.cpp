#include "server/api/openai_chat/response_format.h"

#include <fmt/format.h>

#include "server/api/api_error.h"

namespace mxgpt::server {

chat::ResponseFormat json_schema_format(const ServedModel& served, const json::Node& named,
                                        const std::string& field) {
  const auto schema = named.find("schema");
  return chat::json_schema_format(served.grammar_compiler(),
                                  {.name = named["name"].string(),
                                   .description = named.string_or("description", ""),
                                   .schema = schema ? &schema->raw() : nullptr},
                                  field + ".schema");
}

chat::ResponseFormat parse_response_format(const ServedModel& served, const json::Node& body) {
  const auto format = body.find("response_format");
  if (!format) return {};
  const std::string_view type = (*format)["type"].string();
  const auto required = [&](const char* name) -> json::Node {
    if (const auto node = format->find(name)) return *node;
    const std::string field = fmt::format("response_format.{}", name);
    throw ApiError(400, fmt::format("{}: is missing", field), field, "missing_required_parameter");
  };
  chat::GrammarCompiler& compiler = served.grammar_compiler();
  if (type == "json_object") return chat::json_object_format(compiler, "response_format");
  if (type == "json_schema")
    return json_schema_format(served, required("json_schema"), "response_format.json_schema");
  if (type == "regex") {
    return {.grammar =
                compiler.regex(std::string(required("regex").string()), "response_format.regex")};
  }
  if (type == "grammar") {
    return {.grammar = compiler.ebnf(std::string(required("grammar").string()),
                                     "response_format.grammar")};
  }
  return {};
}

}  // namespace mxgpt::server
