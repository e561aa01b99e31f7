// Guesses at the tokens to come, from the text so far (Saxena 2023, prompt lookup decoding): where
// its last tokens occurred before, what followed them there may follow again. Guesses are computed
// along with the next token and checked against what is drawn, so they change speed, never answers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mxgpt::engine {

/// What followed the latest earlier occurrence of the text's last kLookupTokens tokens, at most
/// `count` tokens. Looks back kLookupReach tokens.
std::vector<int32_t> propose_ngram_drafts(std::span<const int32_t> text, int64_t count);
inline constexpr int64_t kNgramTokens = 3;
inline constexpr int64_t kLookbackTokens = 8192;

/// Learns from the steps what a row costs: seconds = base + rows · row, least squares over recent
/// steps. Of few rows only: those that decode.
class StepCostModel {
 public:
  void add(int64_t rows, double seconds);
  /// Whether a row more, which brings a token with probability `chance`, brings more tokens a
  /// second than a step of `rows` rows does without. Unknown counts as yes: one learns by trying.
  bool is_worthwhile(int64_t rows, double acceptance) const;

 private:
  double weight_ = 0, rows_ = 0, seconds_ = 0, rows_rows_ = 0, rows_seconds_ = 0;  // decaying sums
};

/// How often the guesses of one answer are right, and so how many to make.
class AdaptiveDraftLength {
 public:
  static constexpr int64_t kMaxDrafts = 8;

  /// Drafts worth computing in a step that has `rows` rows without them.
  int64_t length(const StepCostModel& cost, int64_t rows) const;
  /// So many were computed, of which the first `right` were right.
  void update(int64_t drafts, int64_t accepted);
  /// A token came without drafts: slowly, they are given another chance.
  void recover();

 private:
  double acceptance_rate_ = 0.7;  // that a draft is right if those before it are
};

}  // namespace mxgpt::engine
