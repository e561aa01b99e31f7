// Normalizers rewrite text before it is cut into pieces.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/json.h"
#include "text/tokenizer/charsmap.h"

namespace mxgpt::tokenizer {

struct NormalizedText {
  std::string text;  ///< valid UTF-8
  bool at_start;     ///< its first character comes from the first one of the text given to the
                     ///< tokenizer
};

/// Immutable; safe to share between threads.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void normalize(NormalizedText& text) const = 0;

  /// Reads the `normalizer` of a tokenizer.json.
  static std::unique_ptr<Normalizer> from_json(const json::Node& node);
};

/// What sentencepiece does before it looks for tokens: at each place the longest match of the map
/// is replaced; with `remove_extra_blanks` runs of blanks become one and those at the ends none.
std::unique_ptr<Normalizer> sentencepiece_normalizer(std::optional<Charsmap> map,
                                                     bool remove_extra_whitespaces);

}  // namespace mxgpt::tokenizer
