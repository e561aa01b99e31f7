// Text from outside, made safe to print: file contents must not drive the terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mxgpt {

/// `text` with control characters (C0, DEL, C1), invisible direction marks and line separators
/// escaped as \n, \t, \x1b, \u202e…, and bytes that are not UTF-8 as \xNN. What would exceed
/// `limit` characters is cut off and marked with "…". Escaping twice changes nothing more.
std::string escape_for_terminal(std::string_view text, size_t limit = 200);

/// "512 B", "17.9 kB", "12.80 GB": decimal units, as disks and networks count.
std::string format_bytes(uint64_t bytes);

}  // namespace mxgpt
