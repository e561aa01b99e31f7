// Means with intervals for samples that resemble each other within clusters, as the tokens of one
// text do. Treating them as independent gives intervals that are too narrow.
#pragma once

#include <cstdint>
#include <span>

namespace mxgpt::eval {

/// A mean and its 95% interval. With fewer than two clusters there is no interval: the error and
/// the bounds are infinite.
struct Estimate {
  double value = 0;
  double standard_error = 0;
  double low = 0, high = 0;
  int64_t samples = 0;

  bool has_interval() const;
};

/// Mean over all samples, the clusters' totals being what varies independently:
///   se² = G / (G - 1) · Σ over clusters of (Σ of its samples - its size · mean)² / N²
/// (Cochran 1977, Sampling Techniques, 9.A, the ratio estimator for clusters of unequal size; the
/// same as the cluster-robust error of Cameron & Miller 2015 and of Miller 2024, arXiv 2411.00640).
/// The interval takes Student's t with G - 1 degrees of freedom. `cluster[i]` is that of sample i;
/// clusters are numbered from 0 and each one's samples are adjacent.
Estimate clustered_mean(std::span<const double> samples, std::span<const int32_t> cluster);

/// Likewise the share of ones among samples that are 0 or 1 (or between). The interval is Wilson's,
/// with the number of samples that would give the clustered error if they were independent (Korn &
/// Graubard 1998), so it stays within 0 and 1. Where all samples are the same there is no error to
/// judge the clusters by, and every sample counts.
Estimate clustered_proportion(std::span<const double> samples, std::span<const int32_t> cluster);

/// Linear between the two nearest of the `sorted` values, as numpy's default; NaN if there are
/// none.
double quantile(std::span<const float> sorted, double q);

}  // namespace mxgpt::eval
