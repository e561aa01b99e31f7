#include "eval/acceptance.h"

#include <fmt/format.h>

#include <algorithm>

namespace mxgpt::eval {

namespace {

/// Checks that an estimate lies within [low, high].
CriterionResult check_interval(std::string criterion, const Estimate& e, double low, double high) {
  CriterionResult v{.criterion = std::move(criterion),
                    .measured = fmt::format("{:.4g} [{:.4g}, {:.4g}]", e.value, e.low, e.high)};
  if (!e.has_interval()) {
    v.measured = fmt::format("{:.4g}", e.value);
    v.outcome = Outcome::inconclusive;
    v.reason = e.samples == 0 ? "unknown: the stored reference has no NLL"
                              : "too few tokens for a confidence interval";
  } else if (e.low >= low && e.high <= high) {
    v.outcome = Outcome::pass;
  } else if (e.high < low || e.low > high) {
    v.outcome = Outcome::fail;
  } else {
    v.outcome = Outcome::inconclusive;
    v.reason = "the interval crosses the bound; use more text";
  }
  return v;
}

CriterionResult check_upper_bound(std::string criterion, double value, double bound) {
  return {.criterion = std::move(criterion),
          .measured = fmt::format("{:.4g}", value),
          .outcome = value <= bound ? Outcome::pass : Outcome::fail};
}

}  // namespace

bool AcceptanceCriteria::any() const {
  return max_kld || max_kld_p99 || min_top1 || max_ln_ppl || equivalence || max_logprob_error;
}

std::vector<CriterionResult> check_criteria(const AcceptanceCriteria& criteria,
                                            const ComparisonSummary& s) {
  std::vector<CriterionResult> results;
  if (criteria.max_kld) {
    results.push_back(check_interval(fmt::format("mean KLD ≤ {:g}", *criteria.max_kld), s.kld,
                                     -INFINITY, *criteria.max_kld));
  }
  if (criteria.max_kld_p99) {
    results.push_back(check_upper_bound(fmt::format("p99 of KLD ≤ {:g}", *criteria.max_kld_p99),
                                        s.kld_p99, *criteria.max_kld_p99));
    if (s.positions < kMinPositionsForP99) {
      results.back().outcome = Outcome::inconclusive;
      results.back().reason = fmt::format("{} positions; the 99th percentile needs {}", s.positions,
                                          kMinPositionsForP99);
    }
  }
  if (criteria.min_top1) {
    results.push_back(check_interval(fmt::format("top-1 agreement ≥ {:g}", *criteria.min_top1),
                                     s.top1, *criteria.min_top1, INFINITY));
  }
  if (criteria.max_ln_ppl) {
    results.push_back(check_interval(fmt::format("|ln PPL ratio| ≤ {:g}", *criteria.max_ln_ppl),
                                     s.ln_ppl_ratio, -*criteria.max_ln_ppl, *criteria.max_ln_ppl));
    results.back().ratio_bound = *criteria.max_ln_ppl;
  }
  if (criteria.equivalence) {
    CriterionResult v =
        check_interval(fmt::format("equivalence: ln PPL ratio within ±{:g}", *criteria.equivalence),
                       s.ln_ppl_ratio, -*criteria.equivalence, *criteria.equivalence);
    v.ratio_bound = *criteria.equivalence;
    if (s.scored < kMinTokensForEquivalence) {
      v.outcome = Outcome::inconclusive;
      v.reason =
          fmt::format("{} tokens scored; equivalence needs {}", s.scored, kMinTokensForEquivalence);
    }
    results.push_back(std::move(v));
  }
  if (criteria.max_logprob_error) {
    results.push_back(
        check_upper_bound(fmt::format("largest |Δ logprob| ≤ {:g}", *criteria.max_logprob_error),
                          s.max_logprob_error, *criteria.max_logprob_error));
  }
  return results;
}

Outcome overall_outcome(const std::vector<CriterionResult>& results) {
  Outcome outcome = Outcome::pass;
  for (const CriterionResult& v : results) {
    if (v.outcome == Outcome::fail) return Outcome::fail;
    if (v.outcome == Outcome::inconclusive) outcome = Outcome::inconclusive;
  }
  return outcome;
}

std::string_view outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::pass:
      return "pass";
    case Outcome::fail:
      return "fail";
    case Outcome::inconclusive:
      return "inconclusive";
  }
  return "";
}

}  // namespace mxgpt::eval
