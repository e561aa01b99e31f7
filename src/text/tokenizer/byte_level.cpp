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
  byte_.fill(-1);
  char32_t spare = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const char32_t c = printable ? byte : spare++;
    byte_[c] = static_cast<int16_t>(byte);
    std::string spelled;
    unicode::append(spelled, c);
    std::copy(spelled.begin(), spelled.end(), spelling_[byte].bytes);
    spelling_[byte].length = static_cast<uint8_t>(spelled.size());
  }
}

void ByteAlphabet::append_spelling(std::string& out, std::string_view bytes) const {
  for (const char byte : bytes) {
    const Spelling& s = spelling_[static_cast<uint8_t>(byte)];
    out.append(s.bytes, s.length);
  }
}

std::optional<uint8_t> ByteAlphabet::byte_of(char32_t c) const {
  if (c >= std::size(byte_) || byte_[c] < 0) return std::nullopt;
  return static_cast<uint8_t>(byte_[c]);
}

}  // namespace mxgpt::tokenizer
