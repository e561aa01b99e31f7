// Bounds that a comparison is held to, and what they say: yes, no, or that the data do not tell.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/logit_metrics.h"

namespace mxgpt::eval {

enum class Outcome { pass, fail, inconclusive };

/// A figure with an interval holds if the whole interval is within the bound, fails if the whole
/// interval is outside, and is undecided in between, or where there is no interval.
struct AcceptanceCriteria {
  std::optional<double> max_kld;      ///< of the mean
  std::optional<double> max_kld_p99;  ///< needs kFewestForP99 positions
  std::optional<double> min_top1;
  std::optional<double> max_ln_ppl;  ///< of |ln perplexity ratio|
  /// Likewise, and undecided below kFewestForEquivalence scored tokens.
  std::optional<double> equivalence;
  std::optional<double> max_logprob_error;  ///< of the largest

  bool any() const;
};
inline constexpr int64_t kMinPositionsForP99 = 1000;
inline constexpr int64_t kMinTokensForEquivalence = 50'000;

struct CriterionResult {
  std::string criterion;  ///< "mean KLD ≤ 0.002"
  std::string measured;   ///< "0.00061 [0.00058, 0.00064]"
  Outcome outcome;
  std::string reason;      ///< why it is undecided; else empty
  double ratio_bound = 0;  ///< of a bound on the ln perplexity ratio
};

std::vector<CriterionResult> check_criteria(const AcceptanceCriteria& criteria,
                                            const ComparisonSummary& summary);

/// Fails if one fails; else undecided if one is; else holds.
Outcome overall_outcome(const std::vector<CriterionResult>& results);

/// "holds", "fails", "cannot decide".
std::string_view outcome_name(Outcome outcome);

}  // namespace mxgpt::eval
