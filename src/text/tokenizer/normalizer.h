// Normalizers rewrite text before pre-tokenization.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/json.h"
#include "text/tokenizer/charsmap.h"

namespace mxgpt::tokenizer {

struct NormalizedText {
  std::string text;  ///< valid UTF-8
  bool at_start;     ///< whether it begins with the first character of the tokenizer's input
};

/// Immutable; safe to share between threads.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void normalize(NormalizedText& text) const = 0;

  /// Reads the `normalizer` of a tokenizer.json.
  static std::unique_ptr<Normalizer> from_json(const json::Node& node);
};

/// The normalization of sentencepiece: replaces the longest match of the map at each position; with
/// `remove_extra_whitespaces`, also collapses runs of spaces and strips both ends.
std::unique_ptr<Normalizer> sentencepiece_normalizer(std::optional<Charsmap> map,
                                                     bool remove_extra_whitespaces);

}  // namespace mxgpt::tokenizer
