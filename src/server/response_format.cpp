#include "server/response_format.h"

#include <fmt/format.h>

#include "base/printable.h"
#include "server/api_error.h"
#include "server/grammars.h"

namespace mxgpt::server {

namespace {

constexpr Field kSchemaTable[] = {
    Field{"name", kString, "what the model knows it by"}.at_most(64).needed(),
    Field{"description", kString, "told to the model"},
    Field{"schema", kObject, "JSON Schema"},
    Field{"strict", kBoolean, "answers always hold to the schema here"}.unused(),
};
constexpr Fields kSchemaFields = kSchemaTable;

constexpr Field kResponseFormatTable[] = {
    Field{"type", kString, "what the answer is; reasoning stays free"}
        .one_of("text|json_object|json_schema|regex|grammar")
        .needed(),
    Field{"json_schema", kObject, "of type json_schema"}.of(&kSchemaFields),
    Field{"regex", kString, "of type regex: the answer matches it as a whole"},
    Field{"grammar", kString, "of type grammar: GBNF, beginning at the rule root"},
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

const json::value& any_object() {
  static const json::value kSchema = json::object{{"type", "object"}};
  return kSchema;
}

}  // namespace

const Fields kResponseFormatFields = kResponseFormatTable;

ResponseFormat json_object_format(const Served& served, const std::string& param) {
  return {.grammar = served.grammars().json_schema(any_object(), param)};
}

ResponseFormat json_schema_format(const Served& served, const json::Node& named,
                                  const std::string& param) {
  const auto given = named.find("schema");
  const json::value& schema = given ? given->raw() : any_object();
  ResponseFormat out{
      .instructions = fmt::format("# Response Formats\n\n## {}\n\n", named["name"].string()),
      .grammar = served.grammars().json_schema(schema, param + ".schema")};
  if (const std::string_view about = named.string_or("description", ""); !about.empty())
    out.instructions += fmt::format("// {}\n", about);
  write_spaced(out.instructions, schema);
  return out;
}

ResponseFormat read_response_format(const Served& served, const json::Node& body) {
  const auto format = body.find("response_format");
  if (!format) return {};
  const std::string_view type = (*format)["type"].string();
  const auto needed = [&](const char* field) -> json::Node {
    if (const auto node = format->find(field)) return *node;
    const std::string param = fmt::format("response_format.{}", field);
    throw ApiError(400, fmt::format("{}: is missing", param), param, "missing_required_parameter");
  };
  Grammars& grammars = served.grammars();
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

std::shared_ptr<const TextGrammar> arguments_grammar(const Served& served,
                                                     const harmony::ToolDescription& tool) {
  const bool has_schema = tool.parameters && !tool.parameters->get_object().empty();
  return served.grammars().json_schema(has_schema ? *tool.parameters : any_object(),
                                       fmt::format("tools.{}.parameters", tool.name));
}

}  // namespace mxgpt::server
