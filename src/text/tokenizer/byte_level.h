// The alphabet of byte-level BPE (GPT-2): each byte is a printable character, itself where it is
// one in Latin-1 and U+0100 onwards where not.
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
  /// The byte that this character spells.
  std::optional<uint8_t> decode(char32_t c) const;

 private:
  ByteAlphabet();

  struct Encoded {
    char bytes[2];
    uint8_t length;
  };
  std::array<Encoded, 256> encoded_by_byte_;
  std::array<int16_t, 324> byte_by_character_;  ///< by character, up to U+0143; -1: spells none
};

}  // namespace mxgpt::tokenizer
