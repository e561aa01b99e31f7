#include "eval/activation_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/thread_pool.h"

namespace mxgpt::eval {

void ActivationTrace::begin_step() {
  residuals_seen_ = routings_seen_ = 0;
}

void ActivationTrace::residual(const float* x, int64_t rows, int64_t hidden) {
  if (residuals_seen_ == residuals_.size()) residuals_.emplace_back();
  Residual& r = residuals_[residuals_seen_++];
  r.hidden = hidden;
  r.x.assign(x, x + rows * hidden);
}

void ActivationTrace::expert_choices(const int32_t* experts, int64_t rows, int64_t top_k) {
  if (routings_seen_ == routings_.size()) routings_.emplace_back();
  Routing& r = routings_[routings_seen_++];
  r.top_k = top_k;
  r.experts.assign(experts, experts + rows * top_k);
}

void TraceComparison::add(const ActivationTrace& reference, const ActivationTrace& candidate) {
  const auto& a = reference.residuals();
  const auto& b = candidate.residuals();
  MXGPT_CHECK(a.size() == b.size() && !a.empty(), "{} and {} places", a.size(), b.size());
  const int64_t hidden = a[0].hidden, rows = static_cast<int64_t>(a[0].x.size()) / hidden;
  squares_.resize(a.size());
  const auto points = static_cast<int64_t>(a.size());
  parallel_for(points, [&](int64_t point) {
    MXGPT_CHECK(a[point].x.size() == b[point].x.size(), "{} and {}", a[point].x.size(),
                b[point].x.size());
    for (int64_t row = 0; row < rows; ++row) {
      const float* x = &a[point].x[row * hidden];
      const float* y = &b[point].x[row * hidden];
      double error = 0, size = 0;
      for (int64_t i = 0; i < hidden; ++i) {
        const double difference = static_cast<double>(y[i]) - x[i];
        error += difference * difference;
        size += static_cast<double>(x[i]) * x[i];
      }
      if (error > 0) squares_[point] += error / std::max(size, 1e-30);
    }
  });
  rows_ += rows;

  routing_.resize(reference.routings().size());
  for (size_t layer = 0; layer < routing_.size(); ++layer) {
    const ActivationTrace::Routing& p = reference.routings()[layer];
    const ActivationTrace::Routing& q = candidate.routings()[layer];
    MXGPT_CHECK(p.experts.size() == q.experts.size(), "{} and {}", p.experts.size(),
                q.experts.size());
    for (int64_t row = 0; row < rows; ++row) {
      const int32_t* reference_experts = &p.experts[row * p.top_k];
      const int32_t* candidate_experts = &q.experts[row * p.top_k];
      int64_t common = 0;
      for (int64_t i = 0; i < p.top_k; ++i)
        common += std::find(candidate_experts, candidate_experts + p.top_k, reference_experts[i]) !=
                  candidate_experts + p.top_k;
      routing_[layer].top_k_overlap += static_cast<double>(common) / static_cast<double>(p.top_k);
      routing_[layer].same_top_expert += reference_experts[0] == candidate_experts[0];
    }
  }
}

std::vector<double> TraceComparison::hidden_errors() const {
  std::vector<double> errors;
  for (const double squares : squares_)
    errors.push_back(std::sqrt(squares / static_cast<double>(rows_)));
  return errors;
}

std::vector<RoutingAgreement> TraceComparison::routing() const {
  std::vector<RoutingAgreement> means = routing_;
  for (RoutingAgreement& layer : means) {
    layer.top_k_overlap /= static_cast<double>(rows_);
    layer.same_top_expert /= static_cast<double>(rows_);
  }
  return means;
}

std::string tap_point_name(size_t point) {
  if (point == 0) return "embedding";
  return fmt::format("layer {} {}", (point - 1) / 2, point % 2 ? "attention" : "MLP");
}

std::optional<size_t> first_error_jump(const std::vector<double>& errors) {
  constexpr double kMinError = 0.1, kMinEmbeddingError = 0.25, kGrowth = 2, kMinShareOfMax = 0.5;
  if (errors.empty()) return {};
  const double max_error = *std::max_element(errors.begin(), errors.end());
  for (size_t i = 0; i < errors.size(); ++i) {
    const double previous = i ? errors[i - 1] : 0;
    if (errors[i] >= (i ? kMinError : kMinEmbeddingError) && errors[i] >= kGrowth * previous &&
        errors[i] >= kMinShareOfMax * max_error) {
      return i;
    }
  }
  return {};
}

}  // namespace mxgpt::eval
