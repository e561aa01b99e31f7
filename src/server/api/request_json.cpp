#include "server/api/request_json.h"

#include <fmt/format.h>

#include <boost/json/basic_parser_impl.hpp>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/escape.h"
#include "server/api/api_error.h"

namespace mxgpt::server {

namespace {

using boost::json::error_code;

/// Checks a document without building it. boost::json::basic_parser calls the members; returning
/// false stops it.
struct StructureValidator {
  static constexpr size_t max_object_size = kMaxJsonValues;
  static constexpr size_t max_array_size = kMaxJsonValues;
  static constexpr size_t max_key_size = 1 << 20;
  static constexpr size_t max_string_size = size_t{1} << 31;

  std::vector<std::unordered_set<std::string>> open_object_keys;  // of the enclosing objects
  std::string key;
  std::string duplicate_key;
  size_t value_count = 0;

  bool stop(error_code& error) {
    error = boost::json::error::size_mismatch;
    return false;
  }
  bool count(error_code& error) { return ++value_count <= kMaxJsonValues || stop(error); }

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code& error) {
    open_object_keys.emplace_back();
    return count(error);
  }
  bool on_object_end(size_t, error_code&) {
    open_object_keys.pop_back();
    return true;
  }
  bool on_array_begin(error_code& error) { return count(error); }
  bool on_array_end(size_t, error_code&) { return true; }
  bool on_key_part(boost::json::string_view part, size_t, error_code&) {
    key.append(part.data(), part.size());
    return true;
  }
  bool on_key(boost::json::string_view part, size_t, error_code& error) {
    key.append(part.data(), part.size());
    if (!open_object_keys.back().insert(key).second) {
      duplicate_key = key;
      return stop(error);
    }
    key.clear();
    return true;
  }
  bool on_string_part(boost::json::string_view, size_t, error_code&) { return true; }
  bool on_string(boost::json::string_view, size_t, error_code& error) { return count(error); }
  bool on_number_part(boost::json::string_view, error_code&) { return true; }
  bool on_int64(int64_t, boost::json::string_view, error_code& error) { return count(error); }
  bool on_uint64(uint64_t, boost::json::string_view, error_code& error) { return count(error); }
  bool on_double(double, boost::json::string_view, error_code& error) { return count(error); }
  bool on_bool(bool, error_code& error) { return count(error); }
  bool on_null(error_code& error) { return count(error); }
  bool on_comment_part(boost::json::string_view, error_code&) { return true; }
  bool on_comment(boost::json::string_view, error_code&) { return true; }
};

}  // namespace

json::value parse_request(std::string_view body) {
  boost::json::parse_options options;
  options.max_depth = json::kMaxDepth;
  boost::json::basic_parser<StructureValidator> parser(options);
  error_code error;
  parser.write_some(false, body.data(), body.size(), error);
  const StructureValidator& structure = parser.handler();
  if (!structure.duplicate_key.empty() || error == boost::json::error::size_mismatch) {
    if (structure.value_count > kMaxJsonValues)
      throw ApiError(400, fmt::format("the JSON document has more than {} values", kMaxJsonValues));
    const std::string name = escape_for_terminal(structure.duplicate_key);
    throw ApiError(400, fmt::format("duplicate name '{}' in a JSON object", name), name,
                   "duplicate_name");
  }
  try {
    json::value value = json::parse(body, "the body");
    if (!value.is_object()) throw ApiError(400, "the request body must be a JSON object");
    return value;
  } catch (const Error& e) {
    throw ApiError(400, e.what(), {}, "invalid_json");
  }
}

}  // namespace mxgpt::server
