#pragma once

#include <string>
#include <string_view>

namespace mxgpt::tokenizer {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// Unicode normal form of valid UTF-8, with the Unicode 9 tables of the `tokenizers` package. O(n
/// log n) for a run of n combining marks.
std::string to_normal_form(std::string_view text, NormalForm form);

}  // namespace mxgpt::tokenizer
