// Vocabularies in GGUF files, described by `tokenizer.ggml.*`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/pipeline.h"

namespace mxgpt::io {
class GgufFile;
}

namespace mxgpt::tokenizer {

/// Views into a GGUF file.
struct GgufVocabulary {
  enum TokenType : int32_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };

  std::string_view model;  ///< "gpt2", "llama", "bert" or "t5"
  std::string_view pre;    ///< for "gpt2": name of the pre-tokenizer
  std::vector<std::string_view> tokens;
  std::vector<float> scores;   ///< by id, or empty
  std::vector<int32_t> types;  ///< by id, or empty: all normal
  std::vector<std::string_view> merges;
  std::string_view charsmap;  ///< for "t5": sentencepiece's precompiled map; may be empty
  std::optional<text::TokenId> bos, eos, unknown, separator;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
  bool remove_extra_whitespaces = false;

  static GgufVocabulary read(const io::GgufFile& file);

  TokenType type(size_t id) const {
    return types.empty() ? kNormal : static_cast<TokenType>(types[id]);
  }
};

/// `where` names the file in errors.
Pipeline pipeline_from_gguf(const GgufVocabulary& vocabulary, const std::string& where);

}  // namespace mxgpt::tokenizer
