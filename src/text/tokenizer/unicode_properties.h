// Unicode properties used by tokenizer components. The `tokenizers` package takes them from several
// libraries with tables from Unicode 8 to 17; these functions return the same results.
#pragma once

#include <string>

namespace mxgpt::tokenizer {

/// Word characters as bracket items: \w in Rust's regex crate.
#define MXGPT_RUST_WORD R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D})"

/// General categories Nd, Nl and No.
bool is_numeric(char32_t c);

/// Whether c is a word character.
bool is_word(char32_t c);

/// ASCII punctuation and symbols, and the general categories P.
bool is_punctuation(char32_t c);

/// General categories M.
bool is_mark(char32_t c);

/// General category Mn, stripped by BERT.
bool is_nonspacing_mark(char32_t c);

/// Characters that BERT removes: U+FFFD and control, format and private-use characters, except
/// whitespace.
bool is_control(char32_t c);

/// Whether the compatibility decomposition of c is newer than the normalization tables.
bool is_newer_decomposition(char32_t c);

/// Whether c is a mark newer than the normalization tables; such marks are not reordered.
bool is_newer_mark(char32_t c);

/// Appends the lowercase of c, which may be two characters.
void append_lowercase(std::string& out, char32_t c);

}  // namespace mxgpt::tokenizer
