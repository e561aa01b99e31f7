// Notices an answer that goes round in a short circle, as models do that have collapsed ("GGGG…").
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace mxgpt::engine {

class RepetitionDetector {
 public:
  static constexpr int64_t kMaxCycle = 8;

  /// Takes note of the last token of `answer`, and returns how many tokens at its end each equal
  /// the one a circle earlier, for the circle of at most kLongestCircle with the most.
  int64_t push(std::span<const int32_t> tokens);

 private:
  std::array<int64_t, kMaxCycle>
      match_length_{};  // by circle - 1: last tokens equal to those before
};

}  // namespace mxgpt::engine
