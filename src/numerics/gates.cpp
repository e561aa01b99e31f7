#include "numerics/gates.h"

#include <fmt/format.h>

#include <algorithm>

namespace mxgpt {

namespace {

/// The outcome for a figure that must lie within [low, high].
Verdict within(std::string gate, const Estimate& e, double low, double high) {
  Verdict v{.gate = std::move(gate),
            .measured = fmt::format("{:.4g} [{:.4g}, {:.4g}]", e.value, e.low, e.high)};
  if (!e.has_interval()) {
    v.measured = fmt::format("{:.4g}", e.value);
    v.outcome = Outcome::undecided;
    v.reason = e.samples == 0 ? "not known from a reference of this kind"
                              : "too few tokens for an interval";
  } else if (e.low >= low && e.high <= high) {
    v.outcome = Outcome::holds;
  } else if (e.high < low || e.low > high) {
    v.outcome = Outcome::fails;
  } else {
    v.outcome = Outcome::undecided;
    v.reason = "the interval reaches across the bound; more text narrows it";
  }
  return v;
}

Verdict below(std::string gate, double value, double bound) {
  return {.gate = std::move(gate),
          .measured = fmt::format("{:.4g}", value),
          .outcome = value <= bound ? Outcome::holds : Outcome::fails};
}

}  // namespace

bool Gates::any() const {
  return max_kld || max_kld_p99 || min_top1 || max_ln_ppl || equivalence || max_logprob_error;
}

std::vector<Verdict> judge(const Gates& gates, const Summary& s) {
  std::vector<Verdict> verdicts;
  if (gates.max_kld) {
    verdicts.push_back(
        within(fmt::format("mean KLD ≤ {:g}", *gates.max_kld), s.kld, -INFINITY, *gates.max_kld));
  }
  if (gates.max_kld_p99) {
    verdicts.push_back(
        below(fmt::format("p99 of KLD ≤ {:g}", *gates.max_kld_p99), s.kld_p99, *gates.max_kld_p99));
    if (s.positions < kFewestForP99) {
      verdicts.back().outcome = Outcome::undecided;
      verdicts.back().reason =
          fmt::format("{} positions; a 99th percentile needs {}", s.positions, kFewestForP99);
    }
  }
  if (gates.min_top1) {
    verdicts.push_back(within(fmt::format("top-1 agreement ≥ {:g}", *gates.min_top1), s.top1,
                              *gates.min_top1, INFINITY));
  }
  if (gates.max_ln_ppl) {
    verdicts.push_back(within(fmt::format("|ln PPL ratio| ≤ {:g}", *gates.max_ln_ppl),
                              s.ln_ppl_ratio, -*gates.max_ln_ppl, *gates.max_ln_ppl));
    verdicts.back().ratio_bound = *gates.max_ln_ppl;
  }
  if (gates.equivalence) {
    Verdict v = within(fmt::format("equivalence: ln PPL ratio within ±{:g}", *gates.equivalence),
                       s.ln_ppl_ratio, -*gates.equivalence, *gates.equivalence);
    v.ratio_bound = *gates.equivalence;
    if (s.scored < kFewestForEquivalence) {
      v.outcome = Outcome::undecided;
      v.reason =
          fmt::format("{} tokens scored; equivalence needs {}", s.scored, kFewestForEquivalence);
    }
    verdicts.push_back(std::move(v));
  }
  if (gates.max_logprob_error) {
    verdicts.push_back(below(fmt::format("largest |Δ logprob| ≤ {:g}", *gates.max_logprob_error),
                             s.logprob_error, *gates.max_logprob_error));
  }
  return verdicts;
}

Outcome overall(const std::vector<Verdict>& verdicts) {
  Outcome outcome = Outcome::holds;
  for (const Verdict& v : verdicts) {
    if (v.outcome == Outcome::fails) return Outcome::fails;
    if (v.outcome == Outcome::undecided) outcome = Outcome::undecided;
  }
  return outcome;
}

std::string_view outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::holds:
      return "holds";
    case Outcome::fails:
      return "fails";
    case Outcome::undecided:
      return "cannot decide";
  }
  return "";
}

}  // namespace mxgpt
