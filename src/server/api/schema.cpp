#include "server/api/schema.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/escape.h"
#include "server/api/api_error.h"

namespace mxgpt::server {

namespace {

constexpr std::pair<JsonType, std::string_view> kTypeNames[] = {
    {kBoolean, "boolean"}, {kInteger, "integer"}, {kNumber, "number"},
    {kString, "string"},   {kArray, "array"},     {kObject, "object"},
};

std::string type_names(unsigned types) {
  std::vector<std::string_view> names;
  for (const auto& [type, name] : kTypeNames)
    if (types & type) names.push_back(name);
  return fmt::format("{}", fmt::join(names, " or "));
}

bool is_integral(const json::value& value) {
  return value.is_int64() || value.is_uint64() ||
         (value.is_double() && value.get_double() == std::floor(value.get_double()));
}

unsigned types_of(const json::value& value) {
  if (value.is_bool()) return kBoolean;
  if (value.is_string()) return kString;
  if (value.is_array()) return kArray;
  if (value.is_object()) return kObject;
  if (value.is_number()) return is_integral(value) ? kNumber | kInteger : kNumber;
  return 0;
}

std::vector<std::string_view> split_enum(std::string_view choices) {
  std::vector<std::string_view> out;
  while (!choices.empty()) {
    const size_t bar = std::min(choices.find('|'), choices.size());
    out.push_back(choices.substr(0, bar));
    choices.remove_prefix(std::min(bar + 1, choices.size()));
  }
  return out;
}

[[noreturn]] void fail(const std::string& path, const std::string& message, const char* code) {
  throw ApiError(400, fmt::format("{}: {}", path, message), path, code);
}

void check_members(const json::object& object, Schema schema, const std::string& path,
                   bool has_type = false);

void check_type(const json::value& value, unsigned types, const std::string& path) {
  if (types && !(types_of(value) & types))
    fail(path, fmt::format("should be of type {}", type_names(types)), "invalid_type");
}

/// Checks the object that is the value of the field, or one of its items.
void check_object(const json::object& object, const Field& field, const std::string& path) {
  if (!field.object_schema.is_any()) check_members(object, field.object_schema, path);
  const auto variants = field.variants.all();
  if (variants.empty()) return;
  const json::value* type = object.if_contains("type");
  if (!type || type->is_null()) {
    if (field.type_required) fail(path + ".type", "is missing", "missing_required_parameter");
    return check_members(object, variants.front().schema, path, true);
  }
  check_type(*type, kString, path + ".type");
  const std::string_view name = type->get_string();
  for (const Variant& variant : variants)
    if (variant.type == name) return check_members(object, variant.schema, path, true);
  std::vector<std::string_view> names;
  for (const Variant& variant : variants) names.push_back(variant.type);
  fail(path + ".type",
       fmt::format("'{}' is not one of {}", escape_for_terminal(name), fmt::join(names, ", ")),
       "invalid_value");
}

void check_value(const json::value& value, const Field& field, const std::string& path) {
  check_type(value, field.types, path);
  if (value.is_number()) {
    const double number = value.to_number<double>();
    if (!(number >= field.minimum && number <= field.maximum)) {
      fail(path, fmt::format("{} is outside {} to {}", number, field.minimum, field.maximum),
           "invalid_value");
    }
  } else if (value.is_string()) {
    const std::string_view text = value.get_string();
    const auto choices = split_enum(field.enum_values);
    if (!choices.empty() && std::find(choices.begin(), choices.end(), text) == choices.end()) {
      fail(
          path,
          fmt::format("'{}' is not one of {}", escape_for_terminal(text), fmt::join(choices, ", ")),
          "invalid_value");
    }
    if (text.size() > field.size_limit)
      fail(path, fmt::format("is longer than {} bytes", field.size_limit), "invalid_value");
  } else if (value.is_array()) {
    const json::array& array = value.get_array();
    if (array.size() > field.size_limit)
      fail(path, fmt::format("has more than {} entries", field.size_limit), "invalid_value");
    for (size_t i = 0; i < array.size(); ++i) {
      const std::string entry = fmt::format("{}[{}]", path, i);
      check_type(array[i], field.item_types, entry);
      if (array[i].is_object()) check_object(array[i].get_object(), field, entry);
    }
  } else if (value.is_object()) {
    check_object(value.get_object(), field, path);
  }
}

void check_members(const json::object& object, Schema schema, const std::string& path,
                   bool has_type) {
  const auto fields = schema.fields();
  const auto path_of = [&](std::string_view name) {
    return path.empty() ? std::string(name) : fmt::format("{}.{}", path, name);
  };
  for (const auto& [key, value] : object) {
    const std::string_view name = key;
    if (has_type && name == "type") continue;
    const auto field =
        std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.name == name; });
    if (value.is_null() && field == fields.end()) continue;
    if (field == fields.end())
      fail(path_of(escape_for_terminal(name)), "this field is not supported",
           "unsupported_parameter");
    if (!value.is_null()) check_value(value, *field, path_of(name));
  }
  for (const Field& field : fields) {
    if (!field.is_required) continue;
    const json::value* value = object.if_contains(field.name);
    if (!value || value->is_null())
      fail(path_of(field.name), "is missing", "missing_required_parameter");
  }
}

json::object to_json_schema(std::span<const Variant> variants, bool type_required) {
  json::array any;
  for (const Variant& variant : variants) {
    json::object schema = server::to_json_schema(variant.schema);
    schema["properties"].get_object()["type"] = {{"const", variant.type}};
    if (type_required || &variant != &variants.front()) {
      json::value& required = schema["required"];
      if (!required.is_array()) required.emplace_array();
      required.get_array().emplace_back("type");
    }
    any.push_back(std::move(schema));
  }
  return {{"anyOf", std::move(any)}};
}

/// Writes 16, not 1.6E1.
json::value json_number(double value) {
  const auto whole = static_cast<int64_t>(std::clamp(value, -9e15, 9e15));
  return static_cast<double>(whole) == value ? json::value(whole) : json::value(value);
}

json::object to_json_schema(const Field& field) {
  json::array any;
  for (const auto& [type, name] : kTypeNames) {
    if (!(field.types & type)) continue;
    json::object schema{{"type", name}};
    if (type & (kInteger | kNumber)) {
      if (std::isfinite(field.minimum)) schema["minimum"] = json_number(field.minimum);
      if (std::isfinite(field.maximum)) schema["maximum"] = json_number(field.maximum);
    }
    if (type == kString && !field.enum_values.empty()) {
      json::array& choices = schema["enum"].emplace_array();
      for (const std::string_view choice : split_enum(field.enum_values))
        choices.emplace_back(choice);
    }
    if (type == kString && field.size_limit != SIZE_MAX) schema["maxLength"] = field.size_limit;
    if (type == kArray) {
      if (field.size_limit != SIZE_MAX) schema["maxItems"] = field.size_limit;
      Field entry{{}, field.item_types, {}};
      entry.object_schema = field.object_schema;
      entry.variants = field.variants;
      entry.type_required = field.type_required;
      schema["items"] = field.item_types ? to_json_schema(entry) : json::object();
    }
    if (type == kObject && !field.object_schema.is_any())
      schema = server::to_json_schema(field.object_schema);
    if (type == kObject && !field.variants.empty())
      schema = to_json_schema(field.variants.all(), field.type_required);
    any.push_back(std::move(schema));
  }
  if (any.empty()) any.emplace_back(json::object());  // anything
  json::object out = any.size() == 1 ? any.front().as_object() : json::object{{"anyOf", any}};
  if (!field.description.empty()) {
    out["description"] =
        fmt::format("{}{}", field.description, field.is_ignored ? " (has no effect)" : "");
  }
  return out;
}

}  // namespace

void validate_request(const json::object& object, Schema schema) {
  check_members(object, schema, {});
}

json::object to_json_schema(Schema members) {
  json::object properties;
  json::array required;
  for (const Field& field : members.fields()) {
    properties[field.name] = to_json_schema(field);
    if (field.is_required) required.emplace_back(field.name);
  }
  json::object schema{{"type", "object"}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = std::move(required);
  schema["additionalProperties"] = false;
  return schema;
}

}  // namespace mxgpt::server
