// Formatting of untrusted text: file contents must not control the terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mxgpt {

/// `text` with control characters (C0, DEL, C1), invisible direction marks and line separators
/// escaped as \n, \t, \x1b, \u202e…, and invalid UTF-8 bytes as \xNN. Text beyond `limit`
/// characters is replaced by "…". Idempotent.
std::string escape_for_terminal(std::string_view text, size_t limit = 200);

/// "512 B", "17.9 kB", "12.80 GB": decimal units, as for disks and networks.
std::string format_bytes(uint64_t bytes);

}  // namespace mxgpt
