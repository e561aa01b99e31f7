// Ends an answer at the first of some strings, in text that arrives in pieces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mxgpt::text {

class StopStrings {
 public:
  /// Empty strings are ignored.
  explicit StopStrings(std::vector<std::string> stops);

  /// The text that is certain not to be part of a stop string. After a stop string is complete, the
  /// text before it comes back, stopped() is true, and everything later is swallowed.
  std::string push(std::string_view text);
  /// What was held back because a stop string could have begun there.
  std::string finish();
  bool stopped() const { return stopped_; }
  /// The one that stopped it; empty before that.
  const std::string& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  size_t longest_ = 0;
  std::string pending_, matched_;
  bool stopped_ = false;
};

}  // namespace mxgpt::text
