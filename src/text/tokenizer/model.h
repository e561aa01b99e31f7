// The model of a tokenizer: encodes one word of pre-tokenized text.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/tokenizer/vocabulary.h"

namespace mxgpt::tokenizer {

/// Immutable; safe to share between threads.
class Model {
 public:
  /// Buffers reused from word to word by one thread at a time.
  struct Scratch {
    virtual ~Scratch() = default;
  };

  virtual ~Model() = default;

  /// "BPE", "Unigram", "WordPiece" or "WordLevel".
  virtual std::string_view kind() const = 0;
  virtual std::unique_ptr<Scratch> make_scratch() const { return std::make_unique<Scratch>(); }
  /// Appends the ids of `word`, which is valid UTF-8 and not empty. `scratch` is from
  /// make_scratch().
  virtual void encode(std::string_view word, Scratch& scratch,
                      std::vector<text::TokenId>& out) const = 0;

  const Vocabulary& vocabulary() const { return vocabulary_; }

  /// Reads the `model` of a tokenizer.json. With `byte_level`, words are raw bytes instead of the
  /// printable alphabet of a ByteLevel pre-tokenizer; requires supports_raw_bytes().
  static std::unique_ptr<Model> from_json(const json::Node& node, bool byte_level);
  static bool supports_raw_bytes(const json::Node& node);

 protected:
  explicit Model(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}

 private:
  Vocabulary vocabulary_;
};

/// {"token": id, …}
Vocabulary read_vocabulary(const json::Node& node);

}  // namespace mxgpt::tokenizer
