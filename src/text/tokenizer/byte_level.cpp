#include "text/tokenizer/byte_level.h"

#include <algorithm>
#include <iterator>

#include "text/unicode.h"

namespace mxgpt::tokenizer {

const ByteAlphabet& ByteAlphabet::get() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

ByteAlphabet::ByteAlphabet() {
  byte_by_character_.fill(-1);
  char32_t spare = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const char32_t c = printable ? byte : spare++;
    byte_by_character_[c] = static_cast<int16_t>(byte);
    std::string spelled;
    text::unicode::append(spelled, c);
    std::copy(spelled.begin(), spelled.end(), encoded_by_byte_[byte].bytes);
    encoded_by_byte_[byte].length = static_cast<uint8_t>(spelled.size());
  }
}

void ByteAlphabet::append_encoded(std::string& out, std::string_view bytes) const {
  for (const char byte : bytes) {
    const Encoded& s = encoded_by_byte_[static_cast<uint8_t>(byte)];
    out.append(s.bytes, s.length);
  }
}

std::optional<uint8_t> ByteAlphabet::decode(char32_t c) const {
  if (c >= std::size(byte_by_character_) || byte_by_character_[c] < 0) return std::nullopt;
  return static_cast<uint8_t>(byte_by_character_[c]);
}

}  // namespace mxgpt::tokenizer
