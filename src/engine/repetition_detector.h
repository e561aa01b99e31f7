// Detects output that repeats a short cycle, a sign of a degenerate model ("GGGG…").
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace mxgpt::engine {

class RepetitionDetector {
 public:
  static constexpr int64_t kMaxCycle = 8;

  /// Records the last token of `tokens`. Returns how many tokens at the end equal the token one
  /// cycle earlier, maximized over cycle lengths up to kMaxCycle.
  int64_t push(std::span<const int32_t> tokens);

 private:
  std::array<int64_t, kMaxCycle> match_length_{};  // by cycle length - 1
};

}  // namespace mxgpt::engine
