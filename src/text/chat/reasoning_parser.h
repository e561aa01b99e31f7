// Separates the reasoning of a response, <think>…</think> at its start, from the content, as text
// streams in.
#pragma once

#include <string>
#include <string_view>

namespace mxgpt::text {

class ReasoningParser {
 public:
  struct Delta {
    std::string reasoning, content;
  };

  /// `open`: the prompt already ends in <think>.
  explicit ReasoningParser(bool open) : state_(open ? State::kReasoning : State::kStart) {}

  /// Appends `text` and returns what can be classified. Omits the markers and the newlines before
  /// the opening marker and before the content.
  Delta push(std::string_view text);
  /// Returns the rest at the end of the stream.
  Delta finish();

 private:
  enum class State { kStart, kReasoning, kAfterReasoning, kContent };

  State state_;
  std::string pending_;
};

}  // namespace mxgpt::text
