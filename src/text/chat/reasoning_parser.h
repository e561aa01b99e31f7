// Parts the reasoning of an answer, <think>…</think> at its beginning, from the rest as both come.
#pragma once

#include <string>
#include <string_view>

namespace mxgpt::text {

class ReasoningParser {
 public:
  struct Delta {
    std::string reasoning, content;
  };

  /// `open`: the prompt has the <think> already.
  explicit ReasoningParser(bool open) : state_(open ? State::kReasoning : State::kStart) {}

  /// What is certain with this piece. The markers are left out, and so are the newlines before
  /// them and before the answer.
  Delta push(std::string_view text);
  /// What is left when no more will come.
  Delta finish();

 private:
  enum class State { kStart, kReasoning, kAfterReasoning, kContent };

  State state_;
  std::string pending_;
};

}  // namespace mxgpt::text
