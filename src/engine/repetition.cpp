#include "engine/repetition.h"

#include <algorithm>

namespace mxgpt {

int64_t Repetition::push(std::span<const int32_t> answer) {
  int64_t longest = 0;
  for (int64_t circle = 1; circle <= kLongestCircle; ++circle) {
    const int64_t before = static_cast<int64_t>(answer.size()) - 1 - circle;
    int64_t& length = length_[circle - 1];
    length = before >= 0 && answer[before] == answer.back() ? length + 1 : 0;
    longest = std::max(longest, length);
  }
  return longest;
}

}  // namespace mxgpt
