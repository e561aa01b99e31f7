// A tokenizer with 256 byte tokens and Harmony's control tokens, for tests that do not need the 27
// MB vocabulary of gpt-oss.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>

#include "text/tokenizer/tokenizer.h"

namespace mxgpt::harmony {

inline constexpr std::string_view kControlNames[] = {
    "<|start|>",  "<|end|>",  "<|message|>",   "<|channel|>",      "<|constrain|>",
    "<|return|>", "<|call|>", "<|endoftext|>", "<|reserved_264|>",
};

/// Byte b has id b; control tokens start at 256. `without` names a control token to omit, `plain`
/// one that is not marked special.
inline std::string small_tokenizer_json(std::string_view without = {},
                                        std::string_view plain = {}) {
  // The alphabet of byte-level BPE: bytes that are not printable map to U+0100 and above.
  const auto printable = [](int b) {
    return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
  };
  std::string vocab;
  int shifted = 0;
  for (int b = 0; b < 256; ++b) {
    const int character = printable(b) ? b : 256 + shifted++;
    vocab += fmt::format("{}\"\\u{:04x}\":{}", b ? "," : "", character, b);
  }
  std::string added;
  int id = 256;
  for (const std::string_view name : kControlNames) {
    if (name != without) {
      added += fmt::format(
          R"({}{{"id":{},"content":"{}","special":{},"single_word":false,"lstrip":false,"rstrip":false,"normalized":false}})",
          added.empty() ? "" : ",", id, name, name != plain);
    }
    ++id;
  }
  return R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)" + added +
         R"(],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,)"
         R"("trim_offsets":true,"use_regex":false},"post_processor":null,"decoder":{"type":"ByteLevel",)"
         R"("add_prefix_space":false,"trim_offsets":true,"use_regex":false},"model":{"type":"BPE",)"
         R"("dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,)"
         R"("fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{)" +
         vocab + R"(},"merges":[]}})";
}

inline std::shared_ptr<const text::Tokenizer> small_tokenizer() {
  static const auto tokenizer =
      text::Tokenizer::from_json(small_tokenizer_json(), "the small tokenizer");
  return tokenizer;
}

}  // namespace mxgpt::harmony
