// Normalizers rewrite text before it is cut into pieces.
#pragma once

#include <memory>
#include <string>

#include "base/json.h"

namespace mxgpt::tokenizer {

struct NormalizedText {
  std::string text;  ///< valid UTF-8
  bool at_start;     ///< its first character comes from the first one of the text given to the tokenizer
};

/// Immutable; safe to share between threads.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void normalize(NormalizedText& text) const = 0;

  /// Reads the `normalizer` of a tokenizer.json.
  static std::unique_ptr<Normalizer> from_json(const json::Node& node);
};

}  // namespace mxgpt::tokenizer
