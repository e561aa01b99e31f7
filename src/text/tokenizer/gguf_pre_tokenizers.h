#pragma once

#include <span>
#include <string_view>

namespace mxgpt::tokenizer {

/// What a name in `tokenizer.ggml.pre` stands for.
struct GgufPreTokenizer {
  /// Text is split at the matches of the first expression, the pieces at those of the second, and
  /// so on; matches and what lies between them are pieces. Oniguruma's syntax, as in the
  /// tokenizer.json files they come from.
  std::span<const std::string_view> splits;
  bool ignore_merges = false;  ///< a piece that is a token is that token, whatever the merges say
  bool add_bos = false;        ///< unless the file says otherwise
};

/// Null for an unknown name.
const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name);
/// The reverse, for writing: the first name that stands for just this. Empty if there is none.
std::string_view gguf_pre_tokenizer_name(std::span<const std::string_view> splits,
                                         bool ignore_merges);

}  // namespace mxgpt::tokenizer
