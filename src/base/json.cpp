#include "base/json.h"

#include <fmt/format.h>

#include <boost/json/monotonic_resource.hpp>
#include <cmath>

#include "base/error.h"
#include "base/mapped_file.h"

namespace mxgpt::json {

value parse(std::string_view text, std::string_view where) {
  boost::json::parse_options options;
  options.max_depth = kMaxDepth;
  boost::json::error_code error;
  boost::json::stream_parser parser(
      boost::json::make_shared_resource<boost::json::monotonic_resource>(), options);
  size_t used = parser.write_some(text.data(), text.size(), error);
  if (!error) parser.finish(error);
  if (!error && used < text.size() &&
      text.find_first_not_of(" \t\r\n", used) != std::string_view::npos) {
    error = boost::json::error::extra_data;
  }
  if (error) {
    throw Error(std::string(where),
                fmt::format("is not valid JSON: {} near byte {}", error.message(), used));
  }
  return parser.release();
}

value parse_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  return parse({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()},
               path.string());
}

namespace {
std::string_view kind_name(const value& v) {
  switch (v.kind()) {
    case boost::json::kind::null:
      return "null";
    case boost::json::kind::bool_:
      return "a boolean";
    case boost::json::kind::string:
      return "a string";
    case boost::json::kind::array:
      return "an array";
    case boost::json::kind::object:
      return "an object";
    default:
      return "a number";
  }
}
}  // namespace

void Node::fail(const std::string& problem) const {
  // The path of a root is "file:", and Error adds its own colon.
  throw Error(path_.ends_with(':') ? path_.substr(0, path_.size() - 1) : path_, problem);
}

Node Node::operator[](std::string_view key) const {
  const auto* found = object().if_contains(key);
  if (!found) fail(fmt::format("the field '{}' is missing", key));
  return {*found, fmt::format("{}{}{}", path_, path_.ends_with(':') ? " " : ".", key)};
}

std::optional<Node> Node::find(std::string_view key) const {
  const auto* found = object().if_contains(key);
  if (!found || found->is_null()) return std::nullopt;
  return (*this)[key];
}

Node Node::at(size_t index) const {
  if (index >= array().size())
    fail(fmt::format("has {} entries, not {}", array().size(), index + 1));
  return {array()[index], fmt::format("{}[{}]", path_, index)};
}

const json::object& Node::object() const {
  if (!value_->is_object()) fail(fmt::format("should be an object but is {}", kind_name(*value_)));
  return value_->get_object();
}

const json::array& Node::array() const {
  if (!value_->is_array()) fail(fmt::format("should be an array but is {}", kind_name(*value_)));
  return value_->get_array();
}

std::string_view Node::string() const {
  if (!value_->is_string()) fail(fmt::format("should be a string but is {}", kind_name(*value_)));
  return value_->get_string();
}

bool Node::boolean() const {
  if (!value_->is_bool())
    fail(fmt::format("should be true or false but is {}", kind_name(*value_)));
  return value_->get_bool();
}

double Node::number() const {
  if (!value_->is_number()) fail(fmt::format("should be a number but is {}", kind_name(*value_)));
  const double d = value_->to_number<double>();
  if (!std::isfinite(d)) fail("is not a finite number");
  return d;
}

int64_t Node::integer(int64_t low, int64_t high) const {
  const double d = number();
  // 2^63 as a double: the largest magnitude that the conversion below may see.
  if (d != std::floor(d) || std::abs(d) >= 9.2e18)
    fail(fmt::format("should be an integer but is {}", d));
  const int64_t i = value_->is_int64() ? value_->get_int64() : static_cast<int64_t>(d);
  if (i < low || i > high) fail(fmt::format("is {}, outside {} to {}", i, low, high));
  return i;
}

std::string_view Node::string_or(std::string_view key, std::string_view fallback) const {
  const auto node = find(key);
  return node ? node->string() : fallback;
}

bool Node::boolean_or(std::string_view key, bool fallback) const {
  const auto node = find(key);
  return node ? node->boolean() : fallback;
}

int64_t Node::integer_or(std::string_view key, int64_t fallback, int64_t low, int64_t high) const {
  const auto node = find(key);
  return node ? node->integer(low, high) : fallback;
}

double Node::number_or(std::string_view key, double fallback) const {
  const auto node = find(key);
  return node ? node->number() : fallback;
}

}  // namespace mxgpt::json
