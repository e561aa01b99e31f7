// Parts the reasoning of an answer, <think>…</think> at its beginning, from the rest as both come.
#pragma once

#include <string>
#include <string_view>

namespace mxgpt {

class ThinkingSplitter {
 public:
  struct Piece {
    std::string thinking, answer;
  };

  /// `open`: the prompt has the <think> already.
  explicit ThinkingSplitter(bool open) : state_(open ? State::kThinking : State::kStart) {}

  /// What is certain with this piece. The markers are left out, and so are the newlines before
  /// them and before the answer.
  Piece push(std::string_view piece);
  /// What is left when no more will come.
  Piece finish();

 private:
  enum class State { kStart, kThinking, kBehind, kAnswer };

  State state_;
  std::string held_;
};

}  // namespace mxgpt
