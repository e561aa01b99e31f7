// The pattern of Split and Replace: a literal string or a regular expression.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "text/tokenizer/function_ref.h"
#include "text/tokenizer/regex.h"

namespace mxgpt::tokenizer {

class Pattern {
 public:
  static Pattern literal(std::string text);
  static Pattern regex(std::string_view expression, std::string where);
  /// {"String": "…"} or {"Regex": "…"}
  static Pattern from_json(const json::Node& node);

  /// Calls `found(begin, end)` for each match, left to right, without overlap. An empty text has no
  /// match.
  void for_each_match(std::string_view text, FunctionRef<void(size_t, size_t)> found) const;

  /// The literal; null for a regular expression.
  const std::string* literal() const { return regex_ ? nullptr : &literal_; }

 private:
  std::string literal_;
  std::optional<Regex> regex_;
};

}  // namespace mxgpt::tokenizer
