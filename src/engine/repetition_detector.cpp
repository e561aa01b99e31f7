#include "engine/repetition_detector.h"

#include <algorithm>

namespace mxgpt::engine {

int64_t RepetitionDetector::push(std::span<const int32_t> tokens) {
  int64_t longest = 0;
  for (int64_t cycle = 1; cycle <= kMaxCycle; ++cycle) {
    const int64_t before = static_cast<int64_t>(tokens.size()) - 1 - cycle;
    int64_t& length = match_length_[cycle - 1];
    length = before >= 0 && tokens[before] == tokens.back() ? length + 1 : 0;
    longest = std::max(longest, length);
  }
  return longest;
}

}  // namespace mxgpt::engine
