// Draft tokens by prompt lookup (Saxena 2023): if the last tokens occurred before, the tokens that
// followed them may follow again. Each position is sampled with its own fixed random number, so
// drafts change speed, never output.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mxgpt::engine {

/// At most `count` tokens that followed the latest earlier occurrence of the last kNgramTokens
/// tokens, among the last kLookbackTokens.
std::vector<int32_t> propose_ngram_drafts(std::span<const int32_t> text, int64_t count);
inline constexpr int64_t kNgramTokens = 3;
inline constexpr int64_t kLookbackTokens = 8192;

/// Fits the cost of a decode step: seconds = base + rows · row, by least squares over recent steps.
class StepCostModel {
 public:
  void add(int64_t rows, double seconds);
  /// Whether an additional row, accepted with this probability, increases tokens per second over a
  /// step of `rows` rows. True until enough steps are observed.
  bool is_worthwhile(int64_t rows, double acceptance) const;

 private:
  double weight_ = 0, rows_ = 0, seconds_ = 0, rows_rows_ = 0, rows_seconds_ = 0;  // decaying sums
};

/// Adapts the number of draft tokens of one sequence to how often they are accepted.
class AdaptiveDraftLength {
 public:
  static constexpr int64_t kMaxDrafts = 8;

  /// Number of drafts worth computing in a step of `rows` other rows.
  int64_t length(const StepCostModel& cost, int64_t rows) const;
  /// Records that the first `accepted` of `drafts` were accepted.
  void update(int64_t drafts, int64_t accepted);
  /// Records a token without drafts; the estimate slowly rises again.
  void recover();

 private:
  double acceptance_rate_ = 0.7;  // that a draft is accepted if its predecessors are
};

}  // namespace mxgpt::engine
