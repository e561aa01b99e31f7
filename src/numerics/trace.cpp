#include "numerics/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/threads.h"

namespace mxgpt {

void Trace::begin_step() {
  residuals_seen_ = routings_seen_ = 0;
}

void Trace::residual(const float* x, int64_t rows, int64_t hidden) {
  if (residuals_seen_ == residuals_.size()) residuals_.emplace_back();
  Residual& r = residuals_[residuals_seen_++];
  r.hidden = hidden;
  r.x.assign(x, x + rows * hidden);
}

void Trace::routed(const int32_t* experts, int64_t rows, int64_t top_k) {
  if (routings_seen_ == routings_.size()) routings_.emplace_back();
  Routing& r = routings_[routings_seen_++];
  r.top_k = top_k;
  r.experts.assign(experts, experts + rows * top_k);
}

void TraceComparison::add(const Trace& reference, const Trace& candidate) {
  const auto& a = reference.residuals();
  const auto& b = candidate.residuals();
  MXGPT_CHECK(a.size() == b.size() && !a.empty(), "{} and {} places", a.size(), b.size());
  const int64_t hidden = a[0].hidden, rows = static_cast<int64_t>(a[0].x.size()) / hidden;
  squares_.resize(a.size());
  const auto places = static_cast<int64_t>(a.size());
  parallel_for(places, [&](int64_t place) {
    MXGPT_CHECK(a[place].x.size() == b[place].x.size(), "{} and {}", a[place].x.size(),
                b[place].x.size());
    for (int64_t row = 0; row < rows; ++row) {
      const float* x = &a[place].x[row * hidden];
      const float* y = &b[place].x[row * hidden];
      double error = 0, size = 0;
      for (int64_t i = 0; i < hidden; ++i) {
        const double difference = static_cast<double>(y[i]) - x[i];
        error += difference * difference;
        size += static_cast<double>(x[i]) * x[i];
      }
      if (error > 0) squares_[place] += error / std::max(size, 1e-30);
    }
  });
  rows_ += rows;

  routing_.resize(reference.routings().size());
  for (size_t layer = 0; layer < routing_.size(); ++layer) {
    const Trace::Routing& p = reference.routings()[layer];
    const Trace::Routing& q = candidate.routings()[layer];
    MXGPT_CHECK(p.experts.size() == q.experts.size(), "{} and {}", p.experts.size(),
                q.experts.size());
    for (int64_t row = 0; row < rows; ++row) {
      const int32_t* ours = &p.experts[row * p.top_k];
      const int32_t* theirs = &q.experts[row * p.top_k];
      int64_t common = 0;
      for (int64_t i = 0; i < p.top_k; ++i)
        common += std::find(theirs, theirs + p.top_k, ours[i]) != theirs + p.top_k;
      routing_[layer].experts += static_cast<double>(common) / static_cast<double>(p.top_k);
      routing_[layer].first += ours[0] == theirs[0];
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
    layer.experts /= static_cast<double>(rows_);
    layer.first /= static_cast<double>(rows_);
  }
  return means;
}

std::string place_name(size_t place) {
  if (place == 0) return "embedding";
  return fmt::format("layer {} {}", (place - 1) / 2, place % 2 ? "attention" : "MLP");
}

std::optional<size_t> first_jump(const std::vector<double>& errors) {
  constexpr double kLeast = 0.1, kLeastOfEmbedding = 0.25, kGrowth = 2, kShare = 0.5;
  if (errors.empty()) return {};
  const double most = *std::max_element(errors.begin(), errors.end());
  for (size_t i = 0; i < errors.size(); ++i) {
    const double before = i ? errors[i - 1] : 0;
    if (errors[i] >= (i ? kLeast : kLeastOfEmbedding) && errors[i] >= kGrowth * before &&
        errors[i] >= kShare * most) {
      return i;
    }
  }
  return {};
}

}  // namespace mxgpt
