// UTF-8 and the Unicode properties that tokenizers ask for. Text is valid UTF-8 wherever a function
// does not say otherwise; whatever comes from outside goes through `replace_invalid` once and is
// trusted afterwards.
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

/// The character that starts at text[i]; moves i behind it.
char32_t next(std::string_view text, size_t& i);

void append(std::string& out, char32_t c);

size_t count_characters(std::string_view text);

bool is_valid(std::string_view bytes);

/// Appends `bytes` with U+FFFD for each maximal subpart of an ill-formed sequence (Unicode 3.9,
/// table 3-8), as Rust's from_utf8_lossy does. Bytes at the end that may still become a character
/// are left alone when `more_may_follow`. Returns how many bytes were consumed.
size_t append_replacing_invalid(std::string& out, std::string_view bytes,
                                bool more_may_follow = false);

/// A character that the libraries' older Unicode tables know and that stands for `c` there.
char32_t older_equivalent(char32_t c);

/// `text`, or a copy in `buffer` in which newer characters are replaced by their stand-ins, byte
/// for byte in the same places.
std::string_view with_older_equivalents(std::string_view text, std::string& buffer);

/// White_Space.
bool is_whitespace(char32_t c);

}  // namespace mxgpt::text::unicode
