#include "text/tokenizer/charsmap.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {
namespace {

/// Graphemes of this many bytes or more are looked up per character.
constexpr size_t kShortGrapheme = 6;

// A unit of a Darts-clone double array: label in the low byte, bit 8 set if a key ends here, bit 9
// scales the offset. A value unit has bit 31 set; the other bits are the value.
uint32_t label_of(uint32_t unit) {
  return unit & (1u << 31 | 0xFF);
}
bool has_leaf(uint32_t unit) {
  return unit >> 8 & 1;
}
uint32_t offset_of(uint32_t unit) {
  return unit >> 10 << ((unit & (1u << 9)) >> 6);
}
uint32_t value_of(uint32_t unit) {
  return unit & ~(1u << 31);
}

std::string from_base64(std::string_view text, const std::string& where) {
  std::string out;
  out.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  int count = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (const char c : text) {
    uint32_t value;
    if (c >= 'A' && c <= 'Z')
      value = c - 'A';
    else if (c >= 'a' && c <= 'z')
      value = c - 'a' + 26;
    else if (c >= '0' && c <= '9')
      value = c - '0' + 52;
    else if (c == '+')
      value = 62;
    else if (c == '/')
      value = 63;
    else
      throw Error(where, "is not base64");
    bits = bits << 6 | value;
    if ((count += 6) < 8) continue;
    count -= 8;
    out += static_cast<char>(bits >> count & 0xFF);
  }
  return out;
}

size_t next_grapheme(std::string_view text, size_t begin) {
  utf8proc_int32_t state = 0;
  size_t i = begin;
  auto previous =
      static_cast<utf8proc_int32_t>(text::unicode::older_equivalent(text::unicode::next(text, i)));
  while (i < text.size()) {
    size_t after = i;
    const auto c = static_cast<utf8proc_int32_t>(
        text::unicode::older_equivalent(text::unicode::next(text, after)));
    if (utf8proc_grapheme_break_stateful(previous, c, &state)) break;
    previous = c;
    i = after;
  }
  return i;
}

}  // namespace

Charsmap Charsmap::from_base64(std::string_view text, const std::string& where) {
  return from_bytes(tokenizer::from_base64(text, where), where);
}

Charsmap Charsmap::from_bytes(std::string_view blob, const std::string& where) {
  uint32_t trie_bytes = 0;
  if (blob.size() < sizeof trie_bytes) throw Error(where, "the character map is truncated");
  std::memcpy(&trie_bytes, blob.data(), sizeof trie_bytes);
  blob.remove_prefix(sizeof trie_bytes);
  if (trie_bytes > blob.size() || trie_bytes % 4 != 0 || trie_bytes == 0) {
    throw Error(where, fmt::format("the character map's trie has {} bytes, but only {} are left",
                                   trie_bytes, blob.size()));
  }
  Charsmap map;
  map.trie_.resize(trie_bytes / 4);
  std::memcpy(map.trie_.data(), blob.data(), trie_bytes);
  map.replacements_ = blob.substr(trie_bytes);
  if (!text::unicode::is_valid(map.replacements_))
    throw Error(where, "the character map's replacements are not UTF-8");
  return map;
}

std::string_view Charsmap::replacement_at(uint32_t offset) const {
  if (offset >= replacements_.size()) return {};
  const std::string_view rest = std::string_view(replacements_).substr(offset);
  return rest.substr(0, rest.find('\0'));
}

std::optional<Charsmap::Match> Charsmap::find(std::string_view text, MatchKind kind) const {
  std::optional<Match> found;
  uint32_t at = offset_of(trie_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    at ^= byte;
    if (byte == 0 || at >= trie_.size() || label_of(trie_[at]) != byte) break;
    const uint32_t unit = trie_[at];
    at ^= offset_of(unit);
    if (!has_leaf(unit)) continue;
    if (at >= trie_.size()) break;
    const std::string_view replacement = replacement_at(value_of(trie_[at]));
    // A hostile map may point into the middle of a character.
    if (!replacement.empty() && (replacement[0] & 0xC0) == 0x80) break;
    found = Match{i + 1, replacement};
    if (kind == MatchKind::kShortest) break;
  }
  return found;
}

std::string Charsmap::normalize_by_graphemes(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = next_grapheme(text, begin);
    const std::string_view grapheme = text.substr(begin, end - begin);
    begin = end;
    if (grapheme.size() < kShortGrapheme) {
      if (const auto match = find(grapheme, MatchKind::kShortest)) {
        out += match->replacement;
        continue;
      }
    }
    for (size_t i = 0; i < grapheme.size();) {
      const std::string_view character = grapheme.substr(i, text::unicode::length_of(grapheme[i]));
      const auto match = find(character, MatchKind::kShortest);
      out += match ? match->replacement : character;
      i += character.size();
    }
  }
  return out;
}

std::string Charsmap::normalize_by_longest_match(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    auto match = find(text.substr(i), MatchKind::kLongest);
    const size_t character = text::unicode::length_of(text[i]);
    // Only a hostile map has a key that ends inside a character.
    const auto is_boundary = [&](size_t at) {
      return at == text.size() || (text[at] & 0xC0) != 0x80;
    };
    if (match && is_boundary(i + match->length)) {
      out += match->replacement;
      i += match->length;
    } else {
      out.append(text, i, character);
      i += character;
    }
  }
  return out;
}

}  // namespace mxgpt::tokenizer
