#include "text/unicode.h"

#include <cstdint>
#include <cstring>

namespace mxgpt::text::unicode {

char32_t next(std::string_view text, size_t& i) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[i + k]); };
  const char32_t lead = byte(0);
  if (lead < 0x80) {
    ++i;
    return lead;
  }
  char32_t c;
  if (lead < 0xE0) {
    c = (lead & 0x1F) << 6 | (byte(1) & 0x3F);
    i += 2;
  } else if (lead < 0xF0) {
    c = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    i += 3;
  } else {
    c = (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    i += 4;
  }
  return c;
}

void append(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

size_t count_characters(std::string_view text) {
  size_t count = 0;
  for (const char byte : text) count += (byte & 0xC0) != 0x80;
  return count;
}

namespace {

/// Classification of the start of a non-empty byte string: a well-formed sequence of `length`
/// bytes, or the maximal subpart of an ill-formed one, `truncated` if more bytes could complete it.
struct Sequence {
  size_t length;
  bool well_formed;
  bool truncated;
};

Sequence classify(std::string_view bytes) {
  const auto at = [&](size_t k) { return static_cast<unsigned char>(bytes[k]); };
  const unsigned lead = at(0);
  if (lead < 0x80) return {1, true, false};
  // Unicode 3.9, table 3-7: the lead byte bounds the second byte; the others are 80..BF.
  size_t length;
  unsigned low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, false, false};
  }
  for (size_t k = 1; k < length; ++k) {
    if (k == bytes.size()) return {k, false, true};
    if (at(k) < low || at(k) > high) return {k, false, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true, false};
}

/// Length of the well-formed prefix in bytes.
size_t valid_prefix(std::string_view bytes) {
  size_t i = 0;
  while (i < bytes.size()) {
    uint64_t word;
    while (i + sizeof word <= bytes.size()) {
      std::memcpy(&word, bytes.data() + i, sizeof word);
      if (word & 0x8080808080808080u) break;
      i += sizeof word;
    }
    if (i == bytes.size()) break;
    const Sequence sequence = classify(bytes.substr(i));
    if (!sequence.well_formed) break;
    i += sequence.length;
  }
  return i;
}

}  // namespace

bool is_valid(std::string_view bytes) {
  return valid_prefix(bytes) == bytes.size();
}

size_t append_replacing_invalid(std::string& out, std::string_view bytes, bool more_may_follow) {
  size_t i = 0;
  while (true) {
    const size_t valid_bytes = valid_prefix(bytes.substr(i));
    out.append(bytes, i, valid_bytes);
    i += valid_bytes;
    if (i == bytes.size()) return i;
    const Sequence sequence = classify(bytes.substr(i));
    if (sequence.truncated && more_may_follow) return i;
    out += kReplacementCharacter;
    i += sequence.length;
  }
}

bool is_whitespace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

}  // namespace mxgpt::text::unicode
