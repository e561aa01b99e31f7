#include "text/chat/harmony/tool_schema.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <set>

#include "base/error.h"

namespace mxgpt::harmony {
namespace {

// Formats a float as serde_json (ryu) does: shortest round-trip digits, always with a decimal point
// or an exponent. The exponent form is used beyond 16 integer digits or 5 leading zeros.
std::string number_text(double value) {
  if (value == 0) return std::signbit(value) ? "-0.0" : "0.0";
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, std::abs(value), std::chars_format::scientific);
  const std::string_view scientific(buffer, static_cast<size_t>(end.ptr - buffer));  // d[.ddd]e±dd
  const size_t e = scientific.find('e');
  std::string digits(1, scientific[0]);
  if (e > 2) digits += scientific.substr(2, e - 2);
  const int exponent = std::atoi(std::string(scientific.substr(e + 1)).c_str());
  const int count = static_cast<int>(digits.size());
  const int point = exponent + 1;  // digits before the decimal point

  std::string out = value < 0 ? "-" : "";
  if (count <= point && point <= 16) return out + digits + std::string(point - count, '0') + ".0";
  if (0 < point && point <= 16) return out + digits.substr(0, point) + "." + digits.substr(point);
  if (-5 < point && point <= 0) return out + "0." + std::string(-point, '0') + digits;
  if (count > 1) digits.insert(1, ".");
  return out + fmt::format("{}e{}", digits, exponent);
}

// The member of a schema; null if the schema is not an object (`true` is a schema) or lacks the
// key.
const json::value* member(const json::value& schema, std::string_view key) {
  const auto* object = schema.if_object();
  return object ? object->if_contains(key) : nullptr;
}

std::optional<std::string_view> string_member(const json::value& schema, std::string_view key) {
  const auto* found = member(schema, key);
  if (!found || !found->is_string()) return std::nullopt;
  return found->get_string();
}

const json::array* array_member(const json::value& schema, std::string_view key) {
  const auto* found = member(schema, key);
  return found ? found->if_array() : nullptr;
}

bool is_nullable(const json::value& schema) {
  const auto* found = member(schema, "nullable");
  return found && found->is_bool() && found->get_bool();
}

bool is_enum(const json::value& schema) {
  const auto* values = array_member(schema, "enum");
  return values && !values->empty();
}

// Renders the schemas of one function. `where` names the function in errors.
class SchemaWriter {
 public:
  explicit SchemaWriter(std::string where) : where_(std::move(where)) {}

  std::string type(const json::value& schema, const std::string& indent) {
    const DepthGuard level(*this);
    if (const auto* variants = array_member(schema, "oneOf")) return union_type(*variants, indent);
    if (const auto* names = array_member(schema, "type")) {
      std::string joined;
      for (const auto& name : *names) {
        if (const auto* spelled = name.if_string()) append(joined, " | ", simple_name(*spelled));
      }
      if (!joined.empty()) return joined;
    }
    const auto name = string_member(schema, "type");
    if (!name) return "any";
    if (*name == "object") return object_type(schema, indent);
    if (*name == "string") return string_type(schema);
    if (*name == "array") {
      const auto* items = member(schema, "items");
      return items ? type(*items, indent) + "[]" : "Array<any>";
    }
    if (*name == "number" || *name == "integer" || *name == "boolean") {
      return std::string(simple_name(*name));
    }
    return "any";
  }

 private:
  // Tracks the recursion depth.
  class DepthGuard {
   public:
    explicit DepthGuard(SchemaWriter& writer) : writer_(writer) {
      if (++writer_.depth_ > kMaxSchemaDepth) {
        throw Error(writer_.where_, fmt::format("is nested deeper than {} levels", kMaxSchemaDepth),
                    "reduce the nesting");
      }
    }
    ~DepthGuard() { --writer_.depth_; }

   private:
    SchemaWriter& writer_;
  };

  static std::string_view simple_name(std::string_view name) {
    return name == "integer" ? "number" : name;
  }

  static void append(std::string& joined, std::string_view separator, std::string_view part) {
    if (!joined.empty()) joined += separator;
    joined += part;
  }

  static std::string string_type(const json::value& schema) {
    std::string joined;
    if (const auto* values = array_member(schema, "enum")) {
      for (const auto& value : *values) {
        if (const auto* spelled = value.if_string()) {
          append(joined, " | ", fmt::format("\"{}\"", std::string_view(*spelled)));
        }
      }
    }
    return joined.empty() ? "string" : joined;
  }

  std::string nullable_type(const json::value& schema, const std::string& indent) {
    std::string out = type(schema, indent);
    if (is_nullable(schema) && out.find("null") == std::string::npos) out += " | null";
    return out;
  }

  // Compact JSON as serde_json writes it; differs from Boost.JSON only in floats.
  std::string json_text(const json::value& value) {
    const DepthGuard level(*this);
    if (const auto* number = value.if_double()) return number_text(*number);
    if (const auto* array = value.if_array()) {
      std::string joined;
      for (const auto& entry : *array) append(joined, ",", json_text(entry));
      return "[" + joined + "]";
    }
    if (const auto* object = value.if_object()) {
      std::string joined;
      for (const auto& entry : *object) {
        append(joined, ",",
               json::serialize(json::value(entry.key())) + ":" + json_text(entry.value()));
      }
      return "{" + joined + "}";
    }
    return json::serialize(value);
  }

  // "default: …", if the schema has a default. A string is quoted without escapes. The default of
  // an enum is bare next to a property, and JSON in a union outside a property.
  std::string default_comment(const json::value& schema, bool bare_enum) {
    const auto* value = member(schema, "default");
    if (!value) return {};
    const auto* spelled = value->if_string();
    if (!spelled || (is_enum(schema) && !bare_enum)) return "default: " + json_text(*value);
    const std::string_view quote = is_enum(schema) ? "" : "\"";
    return fmt::format("default: {0}{1}{0}", quote, std::string_view(*spelled));
  }

  // The comment after a variant: description, default, both or neither.
  std::string variant_comment(const json::value& variant,
                              std::optional<std::string_view> description, bool bare_enum) {
    const bool has_default = member(variant, "default") != nullptr;
    if (!description && !has_default) return {};
    return fmt::format(" // {}{}{}", description.value_or(""),
                       description && has_default ? " " : "", default_comment(variant, bare_enum));
  }

  // oneOf in type position: one variant per line.
  std::string union_type(const json::array& variants, const std::string& indent) {
    std::string out;
    for (const auto& variant : variants) {
      out += "\n" + indent + " | " + nullable_type(variant, indent + "   ") +
             variant_comment(variant, string_member(variant, "description"), false);
    }
    return out;
  }

  std::string object_type(const json::value& schema, const std::string& indent) {
    std::string out;
    if (const auto description = string_member(schema, "description")) {
      out += fmt::format("{}// {}\n", indent, *description);
    }
    out += "{\n";
    const auto* properties = member(schema, "properties");
    if (properties && properties->is_object()) {
      std::set<std::string_view> required;
      if (const auto* names = array_member(schema, "required")) {
        for (const auto& name : *names) {
          if (const auto* spelled = name.if_string()) required.insert(*spelled);
        }
      }
      for (const auto& entry : properties->get_object()) {
        const std::string_view key = entry.key();
        property(out, fmt::format("{}{}{}", indent, key, required.contains(key) ? "" : "?"),
                 entry.value(), indent);
      }
    }
    return out + indent + "}";
  }

  // `name` includes the indentation and the question mark.
  void property(std::string& out, const std::string& name, const json::value& schema,
                const std::string& indent) {
    const auto comment = [&](std::string_view line) {
      out += fmt::format("{}// {}\n", indent, line);
    };
    if (const auto title = string_member(schema, "title")) {
      comment(*title);
      out += indent + "//\n";
    }
    const auto description = string_member(schema, "description");
    const bool has_one_of = member(schema, "oneOf") != nullptr;
    if (description && !has_one_of) comment(*description);
    if (const auto* examples = array_member(schema, "examples"); examples && !examples->empty()) {
      comment("Examples:");
      for (const auto& example : *examples) {
        if (const auto* spelled = example.if_string()) {
          comment(fmt::format("- \"{}\"", std::string_view(*spelled)));
        }
      }
    }
    if (const auto* variants = array_member(schema, "oneOf")) {
      union_property(out, name, schema, *variants, indent);
      return;
    }
    out += name + ": " + nullable_type(schema, indent + "    ") + ",";
    if (!has_one_of && member(schema, "default")) out += " // " + default_comment(schema, true);
    out += "\n";
  }

  // oneOf of a property: comments, one variant per line, the comma on its own line. The description
  // is printed above, unless the first variant repeats it.
  void union_property(std::string& out, const std::string& name, const json::value& schema,
                      const json::array& variants, const std::string& indent) {
    const auto description = string_member(schema, "description");
    const bool repeated =
        !variants.empty() && string_member(variants[0], "description") == description;
    const bool above = description && !repeated;
    if (above) out += fmt::format("{}// {}\n", indent, *description);
    if (member(schema, "default")) out += indent + "// " + default_comment(schema, true) + "\n";
    out += name + ":\n";
    for (size_t i = 0; i < variants.size(); ++i) {
      const json::value& variant = variants[i];
      auto own_description = string_member(variant, "description");
      if ((i == 0 && above) || own_description == description) own_description.reset();
      out += indent + " | " + nullable_type(variant, indent + "   ") +
             variant_comment(variant, own_description, true) + "\n";
    }
    out += indent + ",\n";
  }

  std::string where_;
  int depth_ = 0;
};

// Calls `line` for each line of the text. A trailing newline does not add an empty line.
template <typename F>
void for_each_line(std::string_view text, F line) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view one_line = text.substr(0, end);
    if (end != std::string_view::npos && one_line.ends_with('\r')) one_line.remove_suffix(1);
    line(one_line);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
}

void render_namespace(std::string& out, const ToolNamespace& tools) {
  const auto to = std::back_inserter(out);
  fmt::format_to(to, "## {}\n", tools.name);
  const std::string_view comment = tools.tools.empty() ? "" : "// ";
  if (tools.description) {
    for_each_line(*tools.description,
                  [&](std::string_view line) { fmt::format_to(to, "\n{}{}", comment, line); });
  }
  if (tools.tools.empty()) return;
  fmt::format_to(to, "\nnamespace {} {{\n", tools.name);
  for (const ToolDescription& tool : tools.tools) {
    for_each_line(tool.description,
                  [&](std::string_view line) { fmt::format_to(to, "\n// {}", line); });
    if (tool.parameters) {
      SchemaWriter writer(fmt::format("tool {}.{}: parameters", tools.name, tool.name));
      fmt::format_to(to, "\ntype {} = (_: {}) => any;\n", tool.name,
                     writer.type(*tool.parameters, ""));
    } else {
      fmt::format_to(to, "\ntype {} = () => any;\n", tool.name);
    }
  }
  fmt::format_to(to, "\n}} // namespace {}", tools.name);
}

}  // namespace

std::string render_tools(const ToolNamespaces& tools) {
  std::string out = "# Tools";
  for (const auto& [key, entry] : tools) {
    out += "\n\n";
    render_namespace(out, entry);
  }
  return out;
}

}  // namespace mxgpt::harmony
