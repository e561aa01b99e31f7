#include "chat/response_format.h"

#include <fmt/format.h>

#include "base/escape.h"
#include "chat/constraints/grammar_compiler.h"
#include "server/api/api_error.h"

namespace mxgpt::chat {

namespace {

constexpr server::Field kSchemaTable[] = {
    server::Field{"name", server::kString, "what the model knows it by"}.max_size(64).required(),
    server::Field{"description", server::kString, "told to the model"},
    server::Field{"schema", server::kObject, "JSON Schema"},
    server::Field{"strict", server::kBoolean, "answers always hold to the schema here"}.ignored(),
};
constexpr server::Schema kSchemaFields = kSchemaTable;

constexpr server::Field kResponseFormatTable[] = {
    server::Field{"type", server::kString, "what the answer is; reasoning stays free"}
        .enum_("text|json_object|json_schema|regex|grammar")
        .required(),
    server::Field{"json_schema", server::kObject, "of type json_schema"}.properties(&kSchemaFields),
    server::Field{"regex", server::kString, "of type regex: the answer matches it as a whole"},
    server::Field{"grammar", server::kString, "of type grammar: GBNF, beginning at the rule root"},
};

/// With blanks behind commas and colons, as models have seen it.
void write_spaced(std::string& out, const json::value& value) {
  const char* separator = "";
  if (value.is_object()) {
    out += '{';
    for (const auto& [key, member] : value.get_object()) {
      out += std::exchange(separator, ", ");
      out += json::serialize(json::value(key));
      out += ": ";
      write_spaced(out, member);
    }
    out += '}';
  } else if (value.is_array()) {
    out += '[';
    for (const json::value& entry : value.get_array()) {
      out += std::exchange(separator, ", ");
      write_spaced(out, entry);
    }
    out += ']';
  } else {
    out += json::serialize(value);
  }
}

const json::value& any_object_schema() {
  static const json::value kSchema = json::object{{"type", "object"}};
  return kSchema;
}

}  // namespace

const server::Schema kResponseFormatFields = kResponseFormatTable;

ResponseFormat json_object_format(const server::ServedModel& served, const std::string& param) {
  return {.grammar = served.grammar_compiler().json_schema(any_object_schema(), param)};
}

ResponseFormat json_schema_format(const server::ServedModel& served, const json::Node& named,
                                  const std::string& param) {
  const auto given = named.find("schema");
  const json::value& schema = given ? given->raw() : any_object_schema();
  ResponseFormat out{
      .instructions = fmt::format("# Response Formats\n\n## {}\n\n", named["name"].string()),
      .grammar = served.grammar_compiler().json_schema(schema, param + ".schema")};
  if (const std::string_view about = named.string_or("description", ""); !about.empty())
    out.instructions += fmt::format("// {}\n", about);
  write_spaced(out.instructions, schema);
  return out;
}

ResponseFormat parse_response_format(const server::ServedModel& served, const json::Node& body) {
  const auto format = body.find("response_format");
  if (!format) return {};
  const std::string_view type = (*format)["type"].string();
  const auto needed = [&](const char* field) -> json::Node {
    if (const auto node = format->find(field)) return *node;
    const std::string param = fmt::format("response_format.{}", field);
    throw server::ApiError(400, fmt::format("{}: is missing", param), param,
                           "missing_required_parameter");
  };
  GrammarCompiler& grammars = served.grammar_compiler();
  if (type == "json_object") return json_object_format(served, "response_format");
  if (type == "json_schema")
    return json_schema_format(served, needed("json_schema"), "response_format.json_schema");
  if (type == "regex") {
    return {.grammar =
                grammars.regex(std::string(needed("regex").string()), "response_format.regex")};
  }
  if (type == "grammar") {
    return {.grammar =
                grammars.ebnf(std::string(needed("grammar").string()), "response_format.grammar")};
  }
  return {};
}

std::shared_ptr<const Grammar> tool_arguments_grammar(const server::ServedModel& served,
                                                      const harmony::ToolDescription& tool) {
  const bool has_schema = tool.parameters && !tool.parameters->get_object().empty();
  return served.grammar_compiler().json_schema(has_schema ? *tool.parameters : any_object_schema(),
                                               fmt::format("tools.{}.parameters", tool.name));
}

}  // namespace mxgpt::chat
