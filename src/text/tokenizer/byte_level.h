// The alphabet of byte-level BPE (GPT-2): each byte maps to a printable character, itself if
// printable in Latin-1, otherwise one from U+0100 on.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mxgpt::tokenizer {

class ByteAlphabet {
 public:
  static const ByteAlphabet& get();

  void append_encoded(std::string& out, std::string_view bytes) const;
  /// The byte that the character represents.
  std::optional<uint8_t> decode(char32_t c) const;

 private:
  ByteAlphabet();

  struct Encoded {
    char bytes[2];
    uint8_t length;
  };
  std::array<Encoded, 256> encoded_by_byte_;
  std::array<int16_t, 324> byte_by_character_;  ///< indexed by character, up to U+0143; -1: none
};

}  // namespace mxgpt::tokenizer
