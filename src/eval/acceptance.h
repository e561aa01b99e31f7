// Acceptance criteria: bounds on the results of a comparison. Each passes, fails or is
// inconclusive.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/logit_metrics.h"

namespace mxgpt::eval {

enum class Outcome { pass, fail, inconclusive };

/// A bound on an estimate passes if the whole confidence interval is within the bound and fails if
/// the whole interval is outside. Otherwise, or without an interval, it is inconclusive.
struct AcceptanceCriteria {
  std::optional<double> max_kld;      ///< on the mean
  std::optional<double> max_kld_p99;  ///< needs kMinPositionsForP99 positions
  std::optional<double> min_top1;
  std::optional<double> max_ln_ppl;  ///< on |ln perplexity ratio|
  /// On |ln perplexity ratio|; inconclusive below kMinTokensForEquivalence scored tokens.
  std::optional<double> equivalence;
  std::optional<double> max_logprob_error;  ///< on the maximum

  bool any() const;
};
inline constexpr int64_t kMinPositionsForP99 = 1000;
inline constexpr int64_t kMinTokensForEquivalence = 50'000;

struct CriterionResult {
  std::string criterion;  ///< "mean KLD ≤ 0.002"
  std::string measured;   ///< "0.00061 [0.00058, 0.00064]"
  Outcome outcome;
  std::string reason;      ///< why it is inconclusive; else empty
  double ratio_bound = 0;  ///< the bound, if it is on the ln perplexity ratio; else 0
};

std::vector<CriterionResult> check_criteria(const AcceptanceCriteria& criteria,
                                            const ComparisonSummary& summary);

/// Fails if any result fails; else inconclusive if any is inconclusive; else passes.
Outcome overall_outcome(const std::vector<CriterionResult>& results);

/// "pass", "fail", "inconclusive".
std::string_view outcome_name(Outcome outcome);

}  // namespace mxgpt::eval
