#pragma once

#include <span>
#include <string_view>

namespace mxgpt::tokenizer {

/// The meaning of a name in `tokenizer.ggml.pre`.
struct GgufPreTokenizer {
  /// Regular expressions in Oniguruma syntax, applied in order. Each splits the parts so far into
  /// its matches and the text between them.
  std::span<const std::string_view> splits;
  bool ignore_merges = false;  ///< a word in the vocabulary is one token
  bool add_bos = false;        ///< default, if the file does not specify it
};

/// Null if the name is unknown.
const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name);
/// The first name with exactly these properties; empty if there is none.
std::string_view gguf_pre_tokenizer_name(std::span<const std::string_view> splits,
                                         bool ignore_merges);

}  // namespace mxgpt::tokenizer
