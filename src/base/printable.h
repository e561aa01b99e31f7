// Text from outside, made safe to print: file contents must not drive the terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mxgpt {

/// `text` with control characters (C0, DEL, C1), invisible direction marks, line separators and
/// backslashes escaped as \n, \t, \x1b, \u202e…, and bytes that are not UTF-8 as \xNN. What would
/// exceed `limit` characters is cut off and marked with "…".
std::string printable(std::string_view text, size_t limit = 200);

}  // namespace mxgpt
