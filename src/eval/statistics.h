// Means with confidence intervals for clustered samples, such as the tokens of a document. Treating
// them as independent would give intervals that are too narrow.
#pragma once

#include <cstdint>
#include <span>

namespace mxgpt::eval {

/// A mean with its 95% confidence interval. With fewer than two clusters, the error and the bounds
/// are infinite.
struct Estimate {
  double value = 0;
  double standard_error = 0;
  double low = 0, high = 0;
  int64_t samples = 0;

  bool has_interval() const;
};

/// Mean over all samples; clusters are the independent units:
///   se² = G / (G - 1) · Σ over clusters of (Σ of its samples - its size · mean)² / N²
/// (Cochran 1977, Sampling Techniques, 9.A, the ratio estimator for clusters of unequal size;
/// equal to the cluster-robust error of Cameron & Miller 2015 and Miller 2024, arXiv 2411.00640).
/// The interval uses Student's t with G - 1 degrees of freedom. `cluster[i]` is the cluster of
/// sample i; clusters are numbered from 0, and the samples of a cluster are adjacent.
Estimate clustered_mean(std::span<const double> samples, std::span<const int32_t> cluster);

/// Mean of samples in [0, 1], usually 0 or 1, with Wilson's interval. The effective sample size is
/// the one that gives the clustered error for independent samples (Korn & Graubard 1998), so the
/// interval stays within [0, 1]. If all samples are equal, every sample counts.
Estimate clustered_proportion(std::span<const double> samples, std::span<const int32_t> cluster);

/// Quantile with linear interpolation, as numpy's default; NaN if `sorted` is empty.
double quantile(std::span<const float> sorted, double q);

}  // namespace mxgpt::eval
