#pragma once

#include <string>
#include <string_view>

namespace mxgpt::tokenizer {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// The Unicode normal form of valid UTF-8, by the Unicode 9 tables of the `tokenizers` package.
/// Takes n log n time in runs of n combining marks.
std::string to_normal_form(std::string_view text, NormalForm form);

}  // namespace mxgpt::tokenizer
