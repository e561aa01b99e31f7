// The precompiled character map of sentencepiece: a double-array trie (Darts) of keys, and their
// replacements.
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

  /// The algorithm of the `tokenizers` package: per grapheme, short ones as a whole.
  std::string normalize_by_graphemes(std::string_view text) const;

  /// The algorithm of sentencepiece: the longest matching key at each position.
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
  std::string replacements_;  ///< each terminated by a zero byte
};

}  // namespace mxgpt::tokenizer
