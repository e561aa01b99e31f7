// JSON of request bodies: stricter than base/json.h, so that no two parsers read it differently.
#pragma once

#include <string_view>

#include "base/json.h"

namespace mxgpt::server {

/// Limit on the values in one request and on the members of one container; bounds the memory that a
/// small document can claim.
inline constexpr size_t kMaxJsonValues = 1'000'000;

/// Throws ApiError, a 400, for invalid JSON or UTF-8, lone surrogates, nesting deeper than
/// json::kMaxDepth, too many values, a duplicate name in an object (the error names it), and a
/// document that is not an object.
json::value parse_request(std::string_view body);

}  // namespace mxgpt::server
