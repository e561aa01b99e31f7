#include "chat/response_format.h"

#include <fmt/format.h>

#include <utility>

namespace mxgpt::chat {

namespace {

/// JSON with a space after commas and colons, as in the training data.
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

ResponseFormat json_object_format(GrammarCompiler& compiler, const std::string& field) {
  return {.grammar = compiler.json_schema(any_object_schema(), field)};
}

ResponseFormat json_schema_format(GrammarCompiler& compiler, const NamedSchema& named,
                                  const std::string& field) {
  const json::value& schema = named.schema ? *named.schema : any_object_schema();
  ResponseFormat out{.instructions = fmt::format("# Response Formats\n\n## {}\n\n", named.name),
                     .grammar = compiler.json_schema(schema, field)};
  if (!named.description.empty()) out.instructions += fmt::format("// {}\n", named.description);
  write_spaced(out.instructions, schema);
  return out;
}

std::shared_ptr<const Grammar> tool_arguments_grammar(GrammarCompiler& compiler,
                                                      const harmony::ToolDescription& tool) {
  const bool has_schema = tool.parameters && !tool.parameters->get_object().empty();
  return compiler.json_schema(has_schema ? *tool.parameters : any_object_schema(),
                              fmt::format("tools.{}.parameters", tool.name));
}

}  // namespace mxgpt::chat
