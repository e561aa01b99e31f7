// Decoders turn the spellings of tokens back into text. A chain of them works on a stream, so that
// decoding all ids at once and decoding them one by one are the same thing.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace mxgpt::tokenizer {

/// One run of a decoder over a stream of tokens. A token comes in one or more chunks, the last of
/// which is marked; chunks are valid UTF-8.
class DecoderStage {
 public:
  virtual ~DecoderStage() = default;
  virtual void put(std::string_view chunk, bool ends_token) = 0;
  /// No more tokens will come: passes on what was held back.
  virtual void finish() = 0;
};

/// Immutable; safe to share between threads.
class Decoder {
 public:
  virtual ~Decoder() = default;
  /// A run whose result goes to `next`, which outlives it.
  virtual std::unique_ptr<DecoderStage> make_stage(DecoderStage& next) const = 0;
};

/// The decoders of a tokenizer.json, Sequences flattened, in the order in which tokens pass them.
std::vector<std::unique_ptr<Decoder>> decoders_from_json(const json::Node& node);

/// Writes a blank between tokens: what is done when a file names no decoder.
std::unique_ptr<Decoder> space_joining_decoder();

/// A chain of decoders at work; what is certain to be text is appended to `out`.
class DecoderChain {
 public:
  DecoderChain(const std::vector<std::unique_ptr<Decoder>>& decoders, std::string& out);
  void put(std::string_view token) { first_->put(token, true); }
  void finish();

 private:
  std::vector<std::unique_ptr<DecoderStage>> stages_;  ///< last stage first
  DecoderStage* first_;
};

}  // namespace mxgpt::tokenizer
