// The Unicode properties that tokenizer components test. The `tokenizers` package takes each from
// another library with tables of another age, from Unicode 8 to 17; the answers here are the same,
// newer and older alike.
#pragma once

#include <string>

namespace mxgpt::tokenizer {

/// Characters of words, inside of brackets: what \w means to Rust's regex crate.
#define MXGPT_RUST_WORD R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D})"

/// Nd, Nl and No.
bool is_numeric(char32_t c);

/// Whether c belongs to a word.
bool is_word(char32_t c);

/// ASCII punctuation, symbols included, and the categories P.
bool is_punctuation(char32_t c);

/// The categories M.
bool is_mark(char32_t c);

/// Mn, as BERT strips them.
bool is_nonspacing_mark(char32_t c);

/// What BERT removes: U+FFFD and control, format and private characters, but no blanks.
bool is_control(char32_t c);

/// Whether the compatibility decomposition of c came after the tables that normalization works by.
bool is_newer_decomposition(char32_t c);

/// Whether c is a mark that came after the tables that normalization works by: it stays where it
/// is.
bool is_newer_mark(char32_t c);

/// Appends the lower case of c, which may be two characters.
void append_lowercase(std::string& out, char32_t c);

}  // namespace mxgpt::tokenizer
