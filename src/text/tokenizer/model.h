// The model of a tokenizer turns one piece of pre-tokenized text into ids.
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
  /// Buffers that one encoding thread at a time uses; they keep their memory from piece to piece.
  struct Scratch {
    virtual ~Scratch() = default;
  };

  virtual ~Model() = default;

  /// "BPE", "Unigram", "WordPiece" or "WordLevel".
  virtual std::string_view kind() const = 0;
  virtual std::unique_ptr<Scratch> make_scratch() const { return std::make_unique<Scratch>(); }
  /// Appends the ids of `piece`, which is valid UTF-8 and not empty. `scratch` comes from
  /// make_scratch.
  virtual void encode(std::string_view word, Scratch& scratch,
                      std::vector<text::TokenId>& out) const = 0;

  const Vocabulary& vocabulary() const { return vocabulary_; }

  /// Reads the `model` of a tokenizer.json. With `byte_level`, pieces come as the bytes of the text
  /// rather than in the printable alphabet that a ByteLevel pre-tokenizer would write; only for
  /// models that `folds_bytes`.
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
