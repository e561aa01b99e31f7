// UTF-8 helpers. Text parameters are valid UTF-8 unless stated otherwise: external input passes
// append_replacing_invalid() once and is trusted afterwards.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mxgpt::text::unicode {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  ///< U+FFFD in UTF-8

/// Length in bytes of the character that starts with this byte.
inline size_t length_of(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// Decodes the character at text[i] and advances i past it.
char32_t next(std::string_view text, size_t& i);

void append(std::string& out, char32_t c);

size_t count_characters(std::string_view text);

bool is_valid(std::string_view bytes);

/// Appends `bytes` with U+FFFD for each maximal subpart of an ill-formed sequence (Unicode 3.9,
/// table 3-8), as Rust's from_utf8_lossy does. With `more_may_follow`, an incomplete
/// character at the end is left unread. Returns the number of bytes consumed.
size_t append_replacing_invalid(std::string& out, std::string_view bytes,
                                bool more_may_follow = false);

/// Maps a character newer than the Unicode tables of PCRE2 and utf8proc to an older one with the
/// same properties; returns other characters unchanged.
char32_t older_equivalent(char32_t c);

/// Returns `text`, or a copy in `buffer` with newer characters replaced by their older equivalents.
/// Byte offsets are unchanged.
std::string_view with_older_equivalents(std::string_view text, std::string& buffer);

/// The Unicode property White_Space.
bool is_whitespace(char32_t c);

}  // namespace mxgpt::text::unicode
