// JSON by Boost.JSON, with errors that name the file and the field. Nesting is limited to
// kMaxDepth, so hostile text cannot exhaust the stack.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace mxgpt::json {

using boost::json::array;
using boost::json::object;
using boost::json::serialize;
using boost::json::value;

inline constexpr int kMaxDepth = 64;

/// Parses one JSON document. `where` names its source in the Error: a file, a line or a request.
/// The returned value owns the memory of the whole document.
value parse(std::string_view text, std::string_view where);

/// Parses a whole file; errors name its path.
value parse_file(const std::filesystem::path& path);

/// A value and its path ("tokenizer.json: model.vocab"; "tokenizer.json:" for the root), for
/// reading untrusted documents. Accessors throw Error naming the path and the expected type. For
/// arrays with millions of elements, read array() directly.
class Node {
 public:
  Node(const value& v, std::string path) : value_(&v), path_(std::move(path)) {}

  Node operator[](std::string_view key) const;           ///< throws when missing
  std::optional<Node> find(std::string_view key) const;  ///< empty when missing or null
  Node at(size_t index) const;                           ///< throws when out of range

  const json::object& object() const;
  const json::array& array() const;
  std::string_view string() const;
  bool boolean() const;
  /// An integer in [low, high]; a float with an integral value is accepted.
  int64_t integer(int64_t low, int64_t high) const;
  /// A finite number.
  double number() const;

  std::string_view string_or(std::string_view key, std::string_view fallback) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  int64_t integer_or(std::string_view key, int64_t fallback, int64_t low, int64_t high) const;
  double number_or(std::string_view key, double fallback) const;

  const json::value& raw() const { return *value_; }
  const std::string& path() const { return path_; }
  [[noreturn]] void fail(const std::string& problem) const;

 private:
  const value* value_;
  std::string path_;
};

}  // namespace mxgpt::json
