// Two models' distributions over the next token, position by position, and what follows from all
// of them. Logarithms are natural: divergences and likelihoods are in nats.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eval/statistics.h"

namespace mxgpt::eval {

inline constexpr int kTopTokens = 8;  ///< tokens of a position that references store

/// A position's logits with what every comparison needs of them. Of two equal logits the lower
/// token comes first.
struct TokenDistribution {
  std::span<const float> logits;
  double log_normalizer = 0;  ///< ln Σ exp(logits)
  std::array<int32_t, kTopTokens>
      top{};  ///< most likely tokens, best first; vocabularies have as many

  double logprob(int32_t token) const { return logits[token] - log_normalizer; }
};
TokenDistribution make_distribution(std::span<const float> logits);

/// What a stored reference says of a position when it has no logits: its kTop best tokens.
struct TopLogprobs {
  std::span<const int32_t> ids;     ///< [kTop], best first
  std::span<const float> logprobs;  ///< [kTop]
};

/// The figures of one position. `token` is the one that follows in the text.
struct PositionMetrics {
  float kld;                           ///< Σ p ln(p / q), p the reference's
  float logprob_error;                 ///< largest |Δ ln p| over the reference's kTop best tokens
  float reference_nll, candidate_nll;  ///< -ln p(token); NaN where unknown
  float reference_confidence, candidate_confidence;  ///< p of its most likely token
  uint8_t top5_overlap;  ///< how many of the five most likely tokens are the same
  bool same_top1;        ///< the most likely token is the same
  bool reference_correct, candidate_correct;  ///< the most likely token is `token`
};
inline constexpr int32_t kNoToken = -1;  ///< the position is the last of its piece

PositionMetrics compare_distributions(const TokenDistribution& reference,
                                      const TokenDistribution& candidate, int32_t token);
/// With the stored tokens and the rest as one: a lower bound of the divergence. The reference's
/// NLL is unknown.
PositionMetrics compare_distributions(const TopLogprobs& reference,
                                      const TokenDistribution& candidate, int32_t token);

/// Tokens by the confidence that a model had in its most likely token: how often it was right.
struct CalibrationBin {
  int64_t count = 0;
  double confidence = 0, accuracy = 0;  ///< means
};
inline constexpr int kCalibrationBins = 10;  ///< of equal width
using Calibration = std::array<CalibrationBin, kCalibrationBins>;

/// Positions by KLD: below kKldFloor, then kKldBinsPerDecade bins a decade.
inline constexpr double kKldFloor = 1e-10;
inline constexpr int kKldBinsPerDecade = 4;
inline constexpr int kKldBins = 1 + 12 * kKldBinsPerDecade;  ///< up to 100 and beyond
using KldHistogram = std::array<int64_t, kKldBins>;

struct ComparisonSummary {
  int64_t positions = 0;  ///< compared
  int64_t scored = 0;     ///< of these, with a token that follows and both models' NLL
  Estimate reference_nll, candidate_nll;
  Estimate ln_ppl_ratio;  ///< ln(candidate's perplexity / reference's): mean of the paired Δ NLL
  Estimate kld;
  double kld_median = 0, kld_p90 = 0, kld_p99 = 0, kld_p99_9 = 0, kld_max = 0;
  int64_t kld_max_position = 0;  ///< position, counted over all pieces
  Estimate top1, top5;           ///< share of positions, and of the five tokens, that agree
  double probability_rms = 0;    ///< root mean square of the change of p(token)
  double max_logprob_error = 0;  ///< largest
  int64_t max_logprob_error_position = 0;
  KldHistogram histogram{};
  Calibration reference_calibration{}, candidate_calibration{};
};

/// `cluster` as for clustered_mean. Positions without a token that follows count for all but the
/// likelihoods.
ComparisonSummary summarize(std::span<const PositionMetrics> positions,
                            std::span<const int32_t> cluster);

}  // namespace mxgpt::eval
