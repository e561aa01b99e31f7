// Decoders convert token strings back to text. A chain of decoders is streaming: decoding ids one
// by one gives the same text as decoding all at once.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace mxgpt::tokenizer {

/// State of one decoder for one stream. A token arrives in one or more chunks of valid UTF-8, the
/// last of which is marked.
class DecoderStage {
 public:
  virtual ~DecoderStage() = default;
  virtual void put(std::string_view chunk, bool ends_token) = 0;
  /// Ends the stream: passes on text held back.
  virtual void finish() = 0;
};

/// Immutable; safe to share between threads.
class Decoder {
 public:
  virtual ~Decoder() = default;
  /// Creates a stage that writes to `next`, which must outlive it.
  virtual std::unique_ptr<DecoderStage> make_stage(DecoderStage& next) const = 0;
};

/// Decoders of a tokenizer.json in order of application, with Sequences flattened.
std::vector<std::unique_ptr<Decoder>> decoders_from_json(const json::Node& node);

/// Joins tokens with spaces: the default of a file without a decoder.
std::unique_ptr<Decoder> space_joining_decoder();

/// Streams tokens through a chain of decoders; appends final text to `out`.
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
