#include "eval/logit_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "eval/teacher_forcing.h"

namespace mxgpt::eval {

namespace {

constexpr float kUnknown = std::numeric_limits<float>::quiet_NaN();
constexpr int kTop5 = 5;

uint8_t overlap(std::span<const int32_t> a, std::span<const int32_t> b) {
  uint8_t count = 0;
  for (const int32_t token : a) count += std::find(b.begin(), b.end(), token) != b.end();
  return count;
}

Calibration calibration(std::span<const PositionMetrics> positions,
                        float PositionMetrics::*confidence, bool PositionMetrics::*correct) {
  Calibration bins{};
  for (const PositionMetrics& p : positions) {
    if (std::isnan(p.candidate_nll)) continue;
    const auto bin_index = static_cast<int>(p.*confidence * kCalibrationBins);
    CalibrationBin& bin = bins[std::clamp(bin_index, 0, kCalibrationBins - 1)];
    ++bin.count;
    bin.confidence += p.*confidence;
    bin.accuracy += p.*correct;
  }
  for (CalibrationBin& bin : bins) {
    const double count = std::max<double>(1, static_cast<double>(bin.count));
    bin.confidence /= count;
    bin.accuracy /= count;
  }
  return bins;
}

int kld_bin(double kld) {
  if (kld < kKldFloor) return 0;
  const double bin_position = std::log10(kld / kKldFloor) * kKldBinsPerDecade;
  return std::min(kKldBins - 1, 1 + static_cast<int>(bin_position));
}

}  // namespace

TokenDistribution make_distribution(std::span<const float> logits) {
  MXGPT_CHECK(logits.size() >= kTopTokens, "{} logits", logits.size());
  TokenDistribution d{.logits = logits, .log_normalizer = log_sum_exp(logits)};
  int count = 0;
  float lowest = 0;
  for (int32_t token = 0; token < static_cast<int32_t>(logits.size()); ++token) {
    if (count == kTopTokens && logits[token] <= lowest) continue;
    int rank = count < kTopTokens ? count++ : kTopTokens - 1;
    for (; rank > 0 && logits[token] > logits[d.top[rank - 1]]; --rank)
      d.top[rank] = d.top[rank - 1];
    d.top[rank] = token;
    lowest = logits[d.top[count - 1]];
  }
  return d;
}

PositionMetrics compare_distributions(const TokenDistribution& reference,
                                      const TokenDistribution& candidate, int32_t token) {
  MXGPT_CHECK(reference.logits.size() == candidate.logits.size(), "{} and {}",
              reference.logits.size(), candidate.logits.size());
  const double shift = candidate.log_normalizer - reference.log_normalizer;
  double kld = 0;
  for (size_t i = 0; i < reference.logits.size(); ++i) {
    const double a = reference.logits[i];
    kld += std::exp(a - reference.log_normalizer) * (a - candidate.logits[i] + shift);
  }
  double error = 0;
  for (const int32_t t : reference.top)
    error = std::max(error, std::abs(reference.logprob(t) - candidate.logprob(t)));
  const bool known = token != kNoToken;
  return {
      .kld = static_cast<float>(std::max(kld, 0.0)),  // rounding may leave -1e-17
      .logprob_error = static_cast<float>(error),
      .reference_nll = known ? static_cast<float>(-reference.logprob(token)) : kUnknown,
      .candidate_nll = known ? static_cast<float>(-candidate.logprob(token)) : kUnknown,
      .reference_confidence = static_cast<float>(std::exp(reference.logprob(reference.top[0]))),
      .candidate_confidence = static_cast<float>(std::exp(candidate.logprob(candidate.top[0]))),
      .top5_overlap =
          overlap(std::span(reference.top).first(kTop5), std::span(candidate.top).first(kTop5)),
      .same_top1 = reference.top[0] == candidate.top[0],
      .reference_correct = reference.top[0] == token,
      .candidate_correct = candidate.top[0] == token,
  };
}

PositionMetrics compare_distributions(const TopLogprobs& reference,
                                      const TokenDistribution& candidate, int32_t token) {
  double kld = 0, error = 0, rest_p = 1, rest_q = 1;
  for (int i = 0; i < kTopTokens; ++i) {
    const double p = reference.logprobs[i], q = candidate.logprob(reference.ids[i]);
    error = std::max(error, std::abs(p - q));
    kld += std::exp(p) * (p - q);
    rest_p -= std::exp(p);
    rest_q -= std::exp(q);
  }
  // Below this, the remainder is rounding error of f32 log-probabilities.
  constexpr double kMinRest = 1e-6;
  if (rest_p > kMinRest && rest_q > kMinRest) kld += rest_p * std::log(rest_p / rest_q);
  const bool known = token != kNoToken;
  return {
      .kld = static_cast<float>(std::max(kld, 0.0)),
      .logprob_error = static_cast<float>(error),
      .reference_nll = kUnknown,
      .candidate_nll = known ? static_cast<float>(-candidate.logprob(token)) : kUnknown,
      .reference_confidence = std::exp(reference.logprobs[0]),
      .candidate_confidence = static_cast<float>(std::exp(candidate.logprob(candidate.top[0]))),
      .top5_overlap = overlap(reference.ids.first(kTop5), std::span(candidate.top).first(kTop5)),
      .same_top1 = reference.ids[0] == candidate.top[0],
      .reference_correct = reference.ids[0] == token,
      .candidate_correct = candidate.top[0] == token,
  };
}

ComparisonSummary summarize(std::span<const PositionMetrics> positions,
                            std::span<const int32_t> cluster) {
  MXGPT_CHECK(positions.size() == cluster.size(), "{} {}", positions.size(), cluster.size());
  const size_t n = positions.size();
  ComparisonSummary s{.positions = static_cast<int64_t>(n)};
  std::vector<double> samples(n);
  const auto mean = [&](auto estimate, auto value) {
    for (size_t i = 0; i < n; ++i) samples[i] = value(positions[i]);
    return estimate(samples, cluster);
  };
  s.kld = mean(clustered_mean, [](const PositionMetrics& p) { return p.kld; });
  s.top1 = mean(clustered_proportion, [](const PositionMetrics& p) { return p.same_top1; });
  s.top5 = mean(clustered_proportion,
                [](const PositionMetrics& p) { return p.top5_overlap / double{kTop5}; });

  std::vector<float> kld(n);
  for (size_t i = 0; i < n; ++i) {
    kld[i] = positions[i].kld;
    ++s.histogram[kld_bin(kld[i])];
    if (positions[i].kld > positions[s.kld_max_position].kld)
      s.kld_max_position = static_cast<int64_t>(i);
    if (positions[i].logprob_error > positions[s.max_logprob_error_position].logprob_error)
      s.max_logprob_error_position = static_cast<int64_t>(i);
  }
  s.max_logprob_error = n ? positions[s.max_logprob_error_position].logprob_error : 0;
  std::sort(kld.begin(), kld.end());
  s.kld_median = quantile(kld, 0.5);
  s.kld_p90 = quantile(kld, 0.9);
  s.kld_p99 = quantile(kld, 0.99);
  s.kld_p99_9 = quantile(kld, 0.999);
  s.kld_max = quantile(kld, 1);

  std::vector<double> reference, candidate, difference;
  std::vector<int32_t> scored;
  double squares = 0;
  for (size_t i = 0; i < n; ++i) {
    const double a = positions[i].reference_nll, b = positions[i].candidate_nll;
    if (std::isnan(a) || std::isnan(b)) continue;
    reference.push_back(a);
    candidate.push_back(b);
    difference.push_back(b - a);
    scored.push_back(cluster[i]);
    squares += (std::exp(-b) - std::exp(-a)) * (std::exp(-b) - std::exp(-a));
  }
  s.scored = static_cast<int64_t>(scored.size());
  s.reference_nll = clustered_mean(reference, scored);
  s.candidate_nll = clustered_mean(candidate, scored);
  s.ln_ppl_ratio = clustered_mean(difference, scored);
  s.probability_rms = std::sqrt(squares / std::max<double>(1, static_cast<double>(s.scored)));
  s.reference_calibration = calibration(positions, &PositionMetrics::reference_confidence,
                                        &PositionMetrics::reference_correct);
  s.candidate_calibration = calibration(positions, &PositionMetrics::candidate_confidence,
                                        &PositionMetrics::candidate_correct);
  return s;
}

}  // namespace mxgpt::eval
