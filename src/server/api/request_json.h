// JSON of a request: what base/json.h takes, less what clients and servers read differently.
#pragma once

#include <string_view>

#include "base/json.h"

namespace mxgpt::server {

/// Values in one request, and members and entries of one container: what a document of 16 MB can
/// hold, it may not spend in memory.
inline constexpr size_t kMaxJsonValues = 1'000'000;

/// Throws ApiError, a 400, for what is not JSON in UTF-8, lone surrogates, nesting deeper than
/// json::kMaxDepth, too many values, a name that comes twice in one object (the error names it),
/// and for anything but an object.
json::value parse_request(std::string_view body);

}  // namespace mxgpt::server
