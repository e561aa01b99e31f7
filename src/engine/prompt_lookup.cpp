#include "engine/prompt_lookup.h"

#include <algorithm>

namespace mxgpt {

namespace {
constexpr int64_t kFewRows = 64;
constexpr double kForget = 0.98;  // some fifty steps are remembered
}  // namespace

std::vector<int32_t> look_up(std::span<const int32_t> text, int64_t count) {
  const auto size = static_cast<int64_t>(text.size());
  if (count <= 0 || size <= kLookupTokens) return {};
  const std::span<const int32_t> last = text.last(kLookupTokens);
  const int64_t from = std::max<int64_t>(0, size - kLookupReach);
  for (int64_t at = size - kLookupTokens - 1; at >= from; --at) {
    if (!std::equal(last.begin(), last.end(), text.begin() + at)) continue;
    const int64_t next = at + kLookupTokens;
    const auto found = text.subspan(next, std::min(count, size - next));
    return {found.begin(), found.end()};
  }
  return {};
}

void StepCost::add(int64_t rows, double seconds) {
  if (rows > kFewRows) return;
  const auto x = static_cast<double>(rows);
  const auto decay = [](double& sum, double value) { sum = sum * kForget + value; };
  decay(weight_, 1);
  decay(rows_, x);
  decay(seconds_, seconds);
  decay(rows_rows_, x * x);
  decay(rows_seconds_, x * seconds);
}

bool StepCost::pays(int64_t rows, double chance) const {
  const double spread = weight_ * rows_rows_ - rows_ * rows_;
  // Steps of one size only tell nothing of what a row more costs.
  if (weight_ < 4 || spread < 0.05 * weight_ * weight_) return true;
  const double row = std::max(0.0, (weight_ * rows_seconds_ - rows_ * seconds_) / spread);
  const double base = std::max(0.0, (seconds_ - row * rows_) / weight_);
  const auto x = static_cast<double>(rows);
  return chance * (base + row * x) > row * x;
}

int64_t DraftPolicy::count(const StepCost& cost, int64_t rows) const {
  int64_t count = 0;
  for (double chance = chance_; count < kMost && chance > 0.15 && cost.pays(rows, chance);
       chance *= chance_) {
    ++count;
  }
  return count;
}

void DraftPolicy::learn(int64_t drafts, int64_t right) {
  // A wrong draft says nothing about those after it.
  const int64_t judged = std::min(drafts, right + 1);
  for (int64_t i = 0; i < judged; ++i) chance_ += 0.2 * ((i < right ? 1.0 : 0.0) - chance_);
}

void DraftPolicy::rest() {
  chance_ = std::max(chance_, std::min(0.5, chance_ + 0.005));
}

}  // namespace mxgpt
