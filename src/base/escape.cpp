#include "base/escape.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace mxgpt {

namespace {

struct CodePoint {
  uint32_t code;
  size_t bytes;  // 0: invalid UTF-8
};

CodePoint decode(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return {0, 0};
  uint32_t code = lead & (0x7f >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {0, 0};
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  if (code < kSmallest[bytes] || surrogate || code > 0x10ffff) return {0, 0};
  return {code, bytes};
}

bool is_printable(uint32_t code) {
  if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return false;
  // Marks that reorder or hide adjacent text, and line separators.
  return !(code == 0x061c || (code >= 0x200b && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) ||
           code == 0xfeff);
}

}  // namespace

std::string escape_for_terminal(std::string_view text, size_t limit) {
  std::string out;
  for (size_t shown = 0; !text.empty(); ++shown) {
    if (shown == limit) return out + "…";
    const CodePoint c = decode(text);
    const size_t bytes = std::max<size_t>(c.bytes, 1);
    if (c.bytes && is_printable(c.code)) {
      out += text.substr(0, bytes);
    } else if (c.bytes && c.code == '\n') {
      out += "\\n";
    } else if (c.bytes && c.code == '\t') {
      out += "\\t";
    } else if (c.bytes > 1) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", c.code);
    } else {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<uint8_t>(text[0]));
    }
    text.remove_prefix(bytes);
  }
  return out;
}

std::string format_bytes(uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  constexpr std::string_view kUnits[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  // 999.95 would be printed as 1000.0 of the smaller unit.
  while (value >= 999.95) value /= 1000, ++unit;
  return fmt::format("{:.{}f} {}", value, kUnits[unit] == "kB" || kUnits[unit] == "MB" ? 1 : 2,
                     kUnits[unit]);
}

}  // namespace mxgpt
