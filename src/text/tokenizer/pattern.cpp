#include "text/tokenizer/pattern.h"

#include <utility>

namespace mxgpt::tokenizer {

Pattern Pattern::literal(std::string text) {
  // The empty string matches between all characters, like the empty regular expression.
  if (text.empty()) return regex("", "pattern");
  Pattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

Pattern Pattern::regex(std::string_view expression, std::string where) {
  Pattern pattern;
  pattern.regex_.emplace(expression, std::move(where));
  return pattern;
}

Pattern Pattern::from_json(const json::Node& node) {
  if (const auto text = node.find("String")) return literal(std::string(text->string()));
  if (const auto expression = node.find("Regex"))
    return regex(expression->string(), expression->path());
  node.fail("must be {\"String\": …} or {\"Regex\": …}");
}

void Pattern::for_each_match(std::string_view text, FunctionRef<void(size_t, size_t)> found) const {
  if (text.empty()) return;
  if (regex_) {
    regex_->for_each_match(text, found);
    return;
  }
  for (size_t begin = text.find(literal_); begin != std::string_view::npos;
       begin = text.find(literal_, begin + literal_.size())) {
    found(begin, begin + literal_.size());
  }
}

}  // namespace mxgpt::tokenizer
