// Ends streamed output at the first of a set of stop strings.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mxgpt::text {

class StopStrings {
 public:
  /// Empty strings are ignored.
  explicit StopStrings(std::vector<std::string> stops);

  /// Appends `text` and returns the prefix that cannot belong to a stop string. Once a stop string
  /// is complete, stopped() is true and all later text is discarded.
  std::string push(std::string_view text);
  /// Returns the text held back as a possible start of a stop string.
  std::string finish();
  bool stopped() const { return stopped_; }
  /// The stop string that was found; empty until then.
  const std::string& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  size_t longest_ = 0;
  std::string pending_, matched_;
  bool stopped_ = false;
};

}  // namespace mxgpt::text
