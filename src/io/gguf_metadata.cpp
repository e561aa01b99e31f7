#include "io/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/escape.h"

namespace mxgpt::io {

namespace {

/// Decodes a value of fixed size. Opening the file rejects booleans other than 0 and 1.
GgufScalar decode(GgufType type, const std::byte* at) {
  switch (type) {
    case GgufType::u8:
      return int64_t{load_le<uint8_t>(at)};
    case GgufType::i8:
      return int64_t{load_le<int8_t>(at)};
    case GgufType::u16:
      return int64_t{load_le<uint16_t>(at)};
    case GgufType::i16:
      return int64_t{load_le<int16_t>(at)};
    case GgufType::u32:
      return int64_t{load_le<uint32_t>(at)};
    case GgufType::i32:
      return int64_t{load_le<int32_t>(at)};
    case GgufType::i64:
      return load_le<int64_t>(at);
    case GgufType::u64: {
      const auto value = load_le<uint64_t>(at);
      if (value > uint64_t{std::numeric_limits<int64_t>::max()}) return value;
      return static_cast<int64_t>(value);
    }
    case GgufType::f32:
      return double{load_le<float>(at)};
    case GgufType::f64:
      return load_le<double>(at);
    case GgufType::boolean:
      return load_le<uint8_t>(at) != 0;
    case GgufType::string:
    case GgufType::array:
      break;
  }
  return false;
}

double as_double(const GgufScalar& scalar) {
  if (const auto* i = std::get_if<int64_t>(&scalar)) return static_cast<double>(*i);
  if (const auto* u = std::get_if<uint64_t>(&scalar)) return static_cast<double>(*u);
  return std::get<double>(scalar);
}

bool in_range(const GgufScalar& scalar, int64_t low, int64_t high) {
  const auto* i = std::get_if<int64_t>(&scalar);
  return i && *i >= low && *i <= high;
}

std::string integer_text(const GgufScalar& scalar) {
  if (const auto* i = std::get_if<int64_t>(&scalar)) return fmt::to_string(*i);
  return fmt::to_string(std::get<uint64_t>(scalar));
}

}  // namespace

std::string_view type_name(GgufType type) {
  constexpr std::string_view kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<uint32_t>(type)];
}

size_t type_bytes(GgufType type) {
  constexpr uint8_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kBytes[static_cast<uint32_t>(type)];
}

std::vector<GgufScalar> GgufValue::elements(size_t limit) const {
  const size_t wanted = std::min(limit, size);
  std::vector<GgufScalar> out;
  out.reserve(wanted);
  if (type == GgufType::string) {
    for (auto it = GgufStrings(bytes, size).begin(); out.size() < wanted; ++it) out.push_back(*it);
  } else {
    for (size_t i = 0; i < wanted; ++i) out.push_back(decode(type, &bytes[i * type_bytes(type)]));
  }
  return out;
}

std::string GgufValue::type_description() const {
  if (!is_array) return std::string(type_name(type));
  return fmt::format("array of {} {}{}", size, type_name(type),
                     type == GgufType::string && size != 1 ? "s" : "");
}

void GgufMetadata::add(std::string_view key, const GgufValue& value) {
  if (!by_key_.emplace(key, entries_.size()).second) fail(key, "occurs twice");
  entries_.push_back({key, value});
}

void GgufMetadata::fail(std::string_view key, const std::string& problem) const {
  throw Error(where_, fmt::format("metadata '{}' {}", escape_for_terminal(key), problem));
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : &entries_[found->second].value;
}

const GgufValue& GgufMetadata::at(std::string_view key, Kind kind, bool is_array) const {
  const GgufValue* value = find(key);
  if (!value) fail(key, "is missing");
  const GgufType type = value->type;
  const bool is_float = type == GgufType::f32 || type == GgufType::f64;
  const bool is_integer = type != GgufType::boolean && type != GgufType::string && !is_float;
  const bool fits = kind == Kind::integer   ? is_integer
                    : kind == Kind::number  ? is_integer || is_float
                    : kind == Kind::boolean ? type == GgufType::boolean
                                            : type == GgufType::string;
  if (!fits || value->is_array != is_array) {
    constexpr std::string_view kOne[] = {"an integer", "a number", "a boolean", "a string"};
    constexpr std::string_view kMany[] = {"integers", "numbers", "booleans", "strings"};
    const size_t k = static_cast<size_t>(kind);
    fail(key, fmt::format("should be {}{} but its type is {}", is_array ? "an array of " : "",
                          is_array ? kMany[k] : kOne[k], value->type_description()));
  }
  return *value;
}

int64_t GgufMetadata::integer(std::string_view key, int64_t low, int64_t high) const {
  const GgufScalar value = at(key, Kind::integer, false).elements(1)[0];
  if (!in_range(value, low, high)) {
    fail(key, fmt::format("is {}, outside {} to {}", integer_text(value), low, high));
  }
  return std::get<int64_t>(value);
}

double GgufMetadata::number(std::string_view key) const {
  const double value = as_double(at(key, Kind::number, false).elements(1)[0]);
  if (!std::isfinite(value)) fail(key, "is not a finite number");
  return value;
}

bool GgufMetadata::boolean(std::string_view key) const {
  return std::get<bool>(at(key, Kind::boolean, false).elements(1)[0]);
}

std::string_view GgufMetadata::string(std::string_view key) const {
  return std::get<std::string_view>(at(key, Kind::string, false).elements(1)[0]);
}

GgufStrings GgufMetadata::strings(std::string_view key) const {
  const GgufValue& value = at(key, Kind::string, true);
  return GgufStrings(value.bytes, value.size);
}

std::vector<int32_t> GgufMetadata::integers(std::string_view key, int32_t low, int32_t high) const {
  const GgufValue& array = at(key, Kind::integer, true);
  std::vector<int32_t> out(array.size);
  for (size_t i = 0; i < out.size(); ++i) {
    const GgufScalar value = decode(array.type, &array.bytes[i * type_bytes(array.type)]);
    if (!in_range(value, low, high)) {
      fail(key, fmt::format("holds {} at index {}, outside {} to {}", integer_text(value), i, low,
                            high));
    }
    out[i] = static_cast<int32_t>(std::get<int64_t>(value));
  }
  return out;
}

std::vector<float> GgufMetadata::numbers(std::string_view key) const {
  const GgufValue& array = at(key, Kind::number, true);
  std::vector<float> out(array.size);
  for (size_t i = 0; i < out.size(); ++i) {
    const double value = as_double(decode(array.type, &array.bytes[i * type_bytes(array.type)]));
    if (!(std::abs(value) <= std::numeric_limits<float>::max())) {
      fail(key, fmt::format("holds {} at index {}, which is not a finite float", value, i));
    }
    out[i] = static_cast<float>(value);
  }
  return out;
}

int64_t GgufMetadata::integer_or(std::string_view key, int64_t fallback, int64_t low,
                                 int64_t high) const {
  return contains(key) ? integer(key, low, high) : fallback;
}

double GgufMetadata::number_or(std::string_view key, double fallback) const {
  return contains(key) ? number(key) : fallback;
}

bool GgufMetadata::boolean_or(std::string_view key, bool fallback) const {
  return contains(key) ? boolean(key) : fallback;
}

std::string_view GgufMetadata::string_or(std::string_view key, std::string_view fallback) const {
  return contains(key) ? string(key) : fallback;
}

}  // namespace mxgpt::io
