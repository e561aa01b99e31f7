// The precompiled character map of sentencepiece: a double-array trie (Darts) of what is to be
// replaced, and the replacements.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mxgpt::tokenizer {

class Charsmap {
 public:
  /// Throws Error naming `where` if the blob is malformed.
  static Charsmap from_bytes(std::string_view blob, const std::string& where);
  static Charsmap from_base64(std::string_view text, const std::string& where);

  /// As the `tokenizers` package does it: grapheme by grapheme, short ones as a whole.
  std::string normalize_by_graphemes(std::string_view text) const;

  /// As sentencepiece does it: at each place the longest key that fits.
  std::string normalize_by_longest_match(std::string_view text) const;

 private:
  struct Match {
    size_t length;
    std::string_view replacement;
  };
  enum class MatchKind { kShortest, kLongest };
  std::optional<Match> find(std::string_view text, MatchKind kind) const;
  std::string_view replacement_at(uint32_t offset) const;

  std::vector<uint32_t> trie_;
  std::string replacements_;  ///< each ended by a zero byte
};

}  // namespace mxgpt::tokenizer
