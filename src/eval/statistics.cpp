#include "eval/statistics.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace mxgpt::eval {

namespace {

constexpr double kConfidence = 0.95;

/// Half width of the interval in standard errors.
double critical_value(int64_t clusters) {
  const boost::math::students_t distribution(static_cast<double>(clusters - 1));
  return boost::math::quantile(distribution, 0.5 + kConfidence / 2);
}

struct Mean {
  double value = 0, variance = std::numeric_limits<double>::infinity();
  int64_t clusters = 0;
};

Mean cluster_mean(std::span<const double> samples, std::span<const int32_t> cluster) {
  MXGPT_CHECK(samples.size() == cluster.size(), "{} {}", samples.size(), cluster.size());
  Mean mean;
  if (samples.empty()) return mean;
  const auto n = static_cast<double>(samples.size());
  for (const double sample : samples) mean.value += sample;
  mean.value /= n;
  double squares = 0;
  for (size_t begin = 0; begin < samples.size();) {
    double deviation = 0;
    size_t i = begin;
    for (; i < samples.size() && cluster[i] == cluster[begin]; ++i)
      deviation += samples[i] - mean.value;
    squares += deviation * deviation;
    ++mean.clusters;
    begin = i;
  }
  if (mean.clusters >= 2) {
    const auto g = static_cast<double>(mean.clusters);
    mean.variance = g / (g - 1) * squares / (n * n);
  }
  return mean;
}

}  // namespace

bool Estimate::has_interval() const {
  return std::isfinite(low) && std::isfinite(high);
}

Estimate clustered_mean(std::span<const double> samples, std::span<const int32_t> cluster) {
  const Mean mean = cluster_mean(samples, cluster);
  const double error = std::sqrt(mean.variance);
  const double half_width = mean.clusters >= 2 ? critical_value(mean.clusters) * error : error;
  return {mean.value, error, mean.value - half_width, mean.value + half_width,
          static_cast<int64_t>(samples.size())};
}

Estimate clustered_proportion(std::span<const double> samples, std::span<const int32_t> cluster) {
  Estimate proportion = clustered_mean(samples, cluster);
  if (!proportion.has_interval()) return proportion;
  const double p = proportion.value,
               variance = proportion.standard_error * proportion.standard_error;
  const auto all = static_cast<double>(samples.size());
  const double n = variance > 0 ? std::min(all, p * (1 - p) / variance) : all;
  const double t =
      (proportion.high - proportion.value) / std::max(proportion.standard_error, 1e-300);
  const double z = variance > 0 ? t : 1.959964;  // normal distribution
  const double center = (p + z * z / (2 * n)) / (1 + z * z / n);
  const double half_width = z / (1 + z * z / n) * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  proportion.low = std::max(0.0, center - half_width);
  proportion.high = std::min(1.0, center + half_width);
  return proportion;
}

double quantile(std::span<const float> sorted, double q) {
  if (sorted.empty()) return std::numeric_limits<double>::quiet_NaN();
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace mxgpt::eval
