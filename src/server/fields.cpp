#include "server/fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/printable.h"
#include "server/api_error.h"

namespace mxgpt::server {

namespace {

constexpr std::pair<JsonType, std::string_view> kTypeNames[] = {
    {kBoolean, "boolean"}, {kInteger, "integer"}, {kNumber, "number"},
    {kString, "string"},   {kArray, "array"},     {kObject, "object"},
};

std::string names_of(unsigned types) {
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

std::vector<std::string_view> split(std::string_view choices) {
  std::vector<std::string_view> out;
  while (!choices.empty()) {
    const size_t bar = std::min(choices.find('|'), choices.size());
    out.push_back(choices.substr(0, bar));
    choices.remove_prefix(std::min(bar + 1, choices.size()));
  }
  return out;
}

[[noreturn]] void fail(const std::string& path, const std::string& what, const char* code) {
  throw ApiError(400, fmt::format("{}: {}", path, what), path, code);
}

void check_members(const json::object& object, Fields fields, const std::string& path,
                   bool has_type = false);

void check_type(const json::value& value, unsigned types, const std::string& path) {
  if (types && !(types_of(value) & types))
    fail(path, fmt::format("should be of type {}", names_of(types)), "invalid_type");
}

/// An object that the field, or an entry of it, is.
void check_object(const json::object& object, const Field& field, const std::string& path) {
  if (field.members) check_members(object, *field.members, path);
  if (!field.variants) return;
  const Variants variants = *field.variants;
  const json::value* type = object.if_contains("type");
  if (!type || type->is_null()) {
    if (field.typed) fail(path + ".type", "is missing", "missing_required_parameter");
    return check_members(object, *variants.front().fields, path, true);
  }
  check_type(*type, kString, path + ".type");
  const std::string_view name = type->get_string();
  for (const Variant& variant : variants)
    if (variant.type == name) return check_members(object, *variant.fields, path, true);
  std::vector<std::string_view> names;
  for (const Variant& variant : variants) names.push_back(variant.type);
  fail(path + ".type",
       fmt::format("'{}' is not one of {}", printable(name), fmt::join(names, ", ")),
       "invalid_value");
}

void check_value(const json::value& value, const Field& field, const std::string& path) {
  check_type(value, field.types, path);
  if (value.is_number()) {
    const double number = value.to_number<double>();
    if (!(number >= field.low && number <= field.high)) {
      fail(path, fmt::format("{} is outside {} to {}", number, field.low, field.high),
           "invalid_value");
    }
  } else if (value.is_string()) {
    const std::string_view text = value.get_string();
    const auto choices = split(field.choices);
    if (!choices.empty() && std::find(choices.begin(), choices.end(), text) == choices.end()) {
      fail(path, fmt::format("'{}' is not one of {}", printable(text), fmt::join(choices, ", ")),
           "invalid_value");
    }
    if (text.size() > field.max_size)
      fail(path, fmt::format("is longer than {} bytes", field.max_size), "invalid_value");
  } else if (value.is_array()) {
    const json::array& array = value.get_array();
    if (array.size() > field.max_size)
      fail(path, fmt::format("has more than {} entries", field.max_size), "invalid_value");
    for (size_t i = 0; i < array.size(); ++i) {
      const std::string entry = fmt::format("{}[{}]", path, i);
      check_type(array[i], field.entries, entry);
      if (array[i].is_object()) check_object(array[i].get_object(), field, entry);
    }
  } else if (value.is_object()) {
    check_object(value.get_object(), field, path);
  }
}

void check_members(const json::object& object, Fields fields, const std::string& path,
                   bool has_type) {
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
      fail(path_of(printable(name)), "this field is not supported", "unsupported_parameter");
    if (!value.is_null()) check_value(value, *field, path_of(name));
  }
  for (const Field& field : fields) {
    if (!field.required) continue;
    const json::value* value = object.if_contains(field.name);
    if (!value || value->is_null())
      fail(path_of(field.name), "is missing", "missing_required_parameter");
  }
}

json::object schema_of(const Variants& variants, bool typed) {
  json::array any;
  for (const Variant& variant : variants) {
    json::object schema = server::schema_of(*variant.fields);
    schema["properties"].get_object()["type"] = {{"const", variant.type}};
    if (typed || &variant != &variants.front()) {
      json::value& needed = schema["required"];
      if (!needed.is_array()) needed.emplace_array();
      needed.get_array().emplace_back("type");
    }
    any.push_back(std::move(schema));
  }
  return {{"anyOf", std::move(any)}};
}

/// 16, and not 1.6E1.
json::value bound(double value) {
  const auto whole = static_cast<int64_t>(std::clamp(value, -9e15, 9e15));
  return static_cast<double>(whole) == value ? json::value(whole) : json::value(value);
}

json::object schema_of(const Field& field) {
  json::array any;
  for (const auto& [type, name] : kTypeNames) {
    if (!(field.types & type)) continue;
    json::object schema{{"type", name}};
    if (type & (kInteger | kNumber)) {
      if (std::isfinite(field.low)) schema["minimum"] = bound(field.low);
      if (std::isfinite(field.high)) schema["maximum"] = bound(field.high);
    }
    if (type == kString && !field.choices.empty()) {
      json::array& choices = schema["enum"].emplace_array();
      for (const std::string_view choice : split(field.choices)) choices.emplace_back(choice);
    }
    if (type == kString && field.max_size != SIZE_MAX) schema["maxLength"] = field.max_size;
    if (type == kArray) {
      if (field.max_size != SIZE_MAX) schema["maxItems"] = field.max_size;
      Field entry{{}, field.entries, {}};
      entry.members = field.members;
      entry.variants = field.variants;
      entry.typed = field.typed;
      schema["items"] = field.entries ? schema_of(entry) : json::object();
    }
    if (type == kObject && field.members) schema = server::schema_of(*field.members);
    if (type == kObject && field.variants) schema = schema_of(*field.variants, field.typed);
    any.push_back(std::move(schema));
  }
  if (any.empty()) any.emplace_back(json::object());  // anything
  json::object out = any.size() == 1 ? any.front().as_object() : json::object{{"anyOf", any}};
  if (!field.meaning.empty()) {
    out["description"] =
        fmt::format("{}{}", field.meaning, field.ignored ? " (has no effect)" : "");
  }
  return out;
}

}  // namespace

void check_fields(const json::object& object, Fields fields) {
  check_members(object, fields, {});
}

json::object schema_of(Fields fields) {
  json::object properties;
  json::array needed;
  for (const Field& field : fields) {
    properties[field.name] = schema_of(field);
    if (field.required) needed.emplace_back(field.name);
  }
  json::object schema{{"type", "object"}, {"properties", std::move(properties)}};
  if (!needed.empty()) schema["required"] = std::move(needed);
  schema["additionalProperties"] = false;
  return schema;
}

}  // namespace mxgpt::server
