// Metrics of two models' next-token distributions, per position and summarized. Divergences and
// likelihoods are in nats.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eval/statistics.h"

namespace mxgpt::eval {

inline constexpr int kTopTokens = 8;  ///< tokens per position in stored references

/// Logits of a position, with derived values. Ties rank the lower token id first.
struct TokenDistribution {
  std::span<const float> logits;
  double log_normalizer = 0;  ///< ln Σ exp(logits)
  std::array<int32_t, kTopTokens>
      top{};  ///< most likely tokens, best first; the vocabulary is at least as large

  double logprob(int32_t token) const { return logits[token] - log_normalizer; }
};
TokenDistribution make_distribution(std::span<const float> logits);

/// Top kTopTokens tokens of a position in a stored reference without logits.
struct TopLogprobs {
  std::span<const int32_t> ids;     ///< [kTopTokens], best first
  std::span<const float> logprobs;  ///< [kTopTokens]
};

/// Metrics of one position. `token` below is the next token of the text.
struct PositionMetrics {
  float kld;                           ///< Σ p ln(p / q); p is the reference
  float logprob_error;                 ///< max |Δ ln p| over the reference's top tokens
  float reference_nll, candidate_nll;  ///< -ln p(token); NaN where unknown
  float reference_confidence, candidate_confidence;  ///< probability of the most likely token
  uint8_t top5_overlap;                              ///< tokens common to both top 5
  bool same_top1;                                    ///< same most likely token
  bool reference_correct, candidate_correct;         ///< the most likely token is `token`
};
inline constexpr int32_t kNoToken = -1;  ///< at the last position of a chunk

PositionMetrics compare_distributions(const TokenDistribution& reference,
                                      const TokenDistribution& candidate, int32_t token);
/// Treats all tokens that are not stored as one, which gives a lower bound of the divergence. The
/// reference's NLL is unknown.
PositionMetrics compare_distributions(const TopLogprobs& reference,
                                      const TokenDistribution& candidate, int32_t token);

/// Tokens grouped by the model's confidence in its most likely token, with the fraction that was
/// correct.
struct CalibrationBin {
  int64_t count = 0;
  double confidence = 0, accuracy = 0;  ///< means
};
inline constexpr int kCalibrationBins = 10;  ///< equal widths
using Calibration = std::array<CalibrationBin, kCalibrationBins>;

/// Histogram of KLD: one bin below kKldFloor, then kKldBinsPerDecade bins per decade.
inline constexpr double kKldFloor = 1e-10;
inline constexpr int kKldBinsPerDecade = 4;
inline constexpr int kKldBins =
    1 + 12 * kKldBinsPerDecade;  ///< the last bin is open-ended, from 100
using KldHistogram = std::array<int64_t, kKldBins>;

struct ComparisonSummary {
  int64_t positions = 0;  ///< number of positions compared
  int64_t scored = 0;     ///< positions with a next token and both models' NLL
  Estimate reference_nll, candidate_nll;
  Estimate ln_ppl_ratio;  ///< ln(candidate's PPL / reference's): mean of the paired Δ NLL
  Estimate kld;
  double kld_median = 0, kld_p90 = 0, kld_p99 = 0, kld_p99_9 = 0, kld_max = 0;
  int64_t kld_max_position = 0;  ///< index over all chunks
  Estimate top1,
      top5;  ///< fraction of positions with the same top token; of top-5 tokens in common
  double probability_rms = 0;    ///< RMS of the change of p(token)
  double max_logprob_error = 0;  ///< maximum over positions
  int64_t max_logprob_error_position = 0;
  KldHistogram histogram{};
  Calibration reference_calibration{}, candidate_calibration{};
};

/// `cluster` is as for clustered_mean. Positions without a next token do not count for likelihoods.
ComparisonSummary summarize(std::span<const PositionMetrics> positions,
                            std::span<const int32_t> cluster);

}  // namespace mxgpt::eval
