// Pre-tokenizers split text into the words that the model encodes one by one.
#pragma once

#include <memory>
#include <string_view>

#include "base/json.h"
#include "text/tokenizer/function_ref.h"

namespace mxgpt::tokenizer {

struct PreToken {
  std::string_view text;  ///< valid UTF-8, not empty
  bool at_start;          ///< whether it begins with the first character of the tokenizer's input
};

/// Called for each pre-token in order; its text is valid until the call returns.
using PreTokenSink = FunctionRef<void(const PreToken&)>;

/// Immutable; safe to share between threads.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void split(const PreToken& pre_token, PreTokenSink emit) const = 0;

  /// Reads the `pre_tokenizer` of a tokenizer.json.
  static std::unique_ptr<PreTokenizer> from_json(const json::Node& node);
};

/// Whether `node` ends in a ByteLevel pre-tokenizer, whose mapping the model can apply instead.
bool ends_in_byte_level(const json::Node& node);

/// As from_json, but the final ByteLevel leaves bytes unchanged. Null if nothing else remains to
/// do.
std::unique_ptr<PreTokenizer> pre_tokenizer_with_raw_bytes(const json::Node& node);

}  // namespace mxgpt::tokenizer
