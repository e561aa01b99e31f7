#include "engine/prompt_lookup.h"

#include <algorithm>

namespace mxgpt::engine {

namespace {
constexpr int64_t kMaxDecodeRows = 64;
constexpr double kDecay = 0.98;  // about fifty steps count
}  // namespace

std::vector<int32_t> propose_ngram_drafts(std::span<const int32_t> text, int64_t count) {
  const auto size = static_cast<int64_t>(text.size());
  if (count <= 0 || size <= kNgramTokens) return {};
  const std::span<const int32_t> last = text.last(kNgramTokens);
  const int64_t from = std::max<int64_t>(0, size - kLookbackTokens);
  for (int64_t at = size - kNgramTokens - 1; at >= from; --at) {
    if (!std::equal(last.begin(), last.end(), text.begin() + at)) continue;
    const int64_t next = at + kNgramTokens;
    const auto found = text.subspan(next, std::min(count, size - next));
    return {found.begin(), found.end()};
  }
  return {};
}

void StepCostModel::add(int64_t rows, double seconds) {
  if (rows > kMaxDecodeRows) return;
  const auto x = static_cast<double>(rows);
  const auto decay = [](double& sum, double value) { sum = sum * kDecay + value; };
  decay(weight_, 1);
  decay(rows_, x);
  decay(seconds_, seconds);
  decay(rows_rows_, x * x);
  decay(rows_seconds_, x * seconds);
}

bool StepCostModel::is_worthwhile(int64_t rows, double acceptance) const {
  const double spread = weight_ * rows_rows_ - rows_ * rows_;
  // Steps of a single size do not determine the cost of a row.
  if (weight_ < 4 || spread < 0.05 * weight_ * weight_) return true;
  const double row_seconds = std::max(0.0, (weight_ * rows_seconds_ - rows_ * seconds_) / spread);
  const double base_seconds = std::max(0.0, (seconds_ - row_seconds * rows_) / weight_);
  const auto x = static_cast<double>(rows);
  return acceptance * (base_seconds + row_seconds * x) > row_seconds * x;
}

int64_t AdaptiveDraftLength::length(const StepCostModel& cost, int64_t rows) const {
  int64_t count = 0;
  for (double acceptance = acceptance_rate_;
       count < kMaxDrafts && acceptance > 0.15 && cost.is_worthwhile(rows, acceptance);
       acceptance *= acceptance_rate_) {
    ++count;
  }
  return count;
}

void AdaptiveDraftLength::update(int64_t drafts, int64_t accepted) {
  // A rejected draft says nothing about later ones.
  const int64_t judged = std::min(drafts, accepted + 1);
  for (int64_t i = 0; i < judged; ++i)
    acceptance_rate_ += 0.2 * ((i < accepted ? 1.0 : 0.0) - acceptance_rate_);
}

void AdaptiveDraftLength::recover() {
  acceptance_rate_ = std::max(acceptance_rate_, std::min(0.5, acceptance_rate_ + 0.005));
}

}  // namespace mxgpt::engine
