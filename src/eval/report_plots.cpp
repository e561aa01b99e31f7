#include "eval/report_plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "eval/html.h"

namespace mxgpt::eval {

namespace {

using html::Axis;
using html::Svg;
using Points = std::vector<std::pair<double, double>>;

/// Colours: blue for the candidate, orange for the reference.
int color_of(const std::string& label) {
  return label == "candidate" ? 0 : label == "reference" ? 1 : 2;
}
std::string line_style(int color) {
  return fmt::format("line s{}", color);
}
std::string dot_style(int color) {
  return fmt::format("f{}", color);
}

std::string percent(double share) {
  return fmt::format("{:.2f}%", 100 * share);
}

/// "blk.3.attn_q.weight" becomes "attn_q.weight".
std::string kind_of(const std::string& name) {
  if (!name.starts_with("blk.")) return name;
  return name.substr(name.find('.', 4) + 1);
}

}  // namespace

std::string ratio_plot(const Report& report) {
  const Estimate& e = report.summary.ln_ppl_ratio;
  if (!e.has_interval()) return "";
  double bound = 0;
  for (const CriterionResult& v : report.results) bound = std::max(bound, v.ratio_bound);
  const double half_range = 1.25 * std::max({bound, std::abs(e.low), std::abs(e.high), 1e-6});
  Svg svg(960, 120, "Interval of the ln perplexity ratio");
  const Axis x{-half_range, half_range, 40, 920};
  if (bound > 0) {
    svg.rect(x.at(-bound), 22, x.at(bound) - x.at(-bound), 52, "band");
    svg.text(x.at(-bound), 14, fmt::format("−{:g}", bound));
    svg.text(x.at(bound), 14, fmt::format("+{:g}", bound));
  }
  for (const auto& [value, label] : x.ticks(8)) {
    svg.line(x.at(value), 70, x.at(value), 78, "axis");
    svg.text(x.at(value), 94, label);
  }
  svg.line(x.from, 74, x.to, 74, "axis");
  svg.line(x.at(0), 22, x.at(0), 74, "zero");
  svg.rect(x.at(e.low), 42, std::max(2.0, x.at(e.high) - x.at(e.low)), 12, "f0 soft",
           fmt::format("95% interval: {:+.6f} to {:+.6f}", e.low, e.high));
  svg.circle(x.at(e.value), 48, 6, "f0", fmt::format("{:+.6f}", e.value));
  svg.text(480, 114, "ln(candidate's perplexity / reference's); right is worse", "middle", "name");
  return std::move(svg).finish();
}

std::string kld_plot(const Report& report) {
  struct Curve {
    int color;
    std::string name;
    const ComparisonSummary* summary;
  };
  std::vector<Curve> curves{
      {report.source_comparisons.empty() ? 0 : 2, "candidate vs. reference", &report.summary}};
  for (const SourceComparison& a : report.source_comparisons)
    curves.push_back({color_of(a.label), a.label + " vs. source", &a.summary});

  // Range: from the decade in which a curve first exceeds kMinShare of its positions, to the last
  // one.
  constexpr double kMinShare = 0.002;
  int first = kKldBins - kKldBinsPerDecade, last = 0;
  for (const Curve& curve : curves) {
    const auto min_count =
        static_cast<int64_t>(kMinShare * static_cast<double>(curve.summary->positions));
    for (int bin = kKldBins - 1; bin >= 1; --bin) {
      const int64_t count = curve.summary->histogram[bin];
      if (count > 0) last = std::max(last, bin);
      if (count > min_count) first = std::min(first, bin);
    }
  }
  first = 1 + (first - 1) / kKldBinsPerDecade * kKldBinsPerDecade;
  last = std::max(last, first + kKldBinsPerDecade - 1);
  last = (last + kKldBinsPerDecade - 1) / kKldBinsPerDecade * kKldBinsPerDecade;
  const auto share_of = [](const ComparisonSummary& s, int begin, int end) {
    double count = 0;
    for (int bin = begin; bin < end; ++bin) count += static_cast<double>(s.histogram[bin]);
    return count / std::max<double>(1, static_cast<double>(s.positions));
  };
  double max_share = 0;
  for (const Curve& curve : curves) {
    max_share = std::max(max_share, share_of(*curve.summary, 0, first));
    for (int bin = first; bin <= last; ++bin)
      max_share = std::max(max_share, share_of(*curve.summary, bin, bin + 1));
  }

  Svg svg(620, 410, "Histogram of the KL divergence");
  // Smaller values form one bar on the left, two bins wide, separated by a gap.
  const Axis x{static_cast<double>(first - 4), static_cast<double>(last + 1), 70, 604};
  const Axis y{0, html::round_up(100 * max_share), 350, 56};
  const Axis share{0, y.high / 100, y.from, y.to};
  svg.frame(x, y, "KLD per position, in nats", "% of positions", false);
  const int decades = (last + 1 - first) / kKldBinsPerDecade, every = decades > 8 ? 2 : 1;
  for (int decade = 0; decade <= decades; ++decade) {
    const int bin = first + decade * kKldBinsPerDecade;
    const int exponent =
        static_cast<int>(std::lround(std::log10(kKldFloor))) + (bin - 1) / kKldBinsPerDecade;
    svg.line(x.at(bin), y.from, x.at(bin), y.to, "grid");
    if (decade % every == 0) svg.text(x.at(bin), y.from + 18, html::power_of_ten(exponent));
  }
  svg.text(x.at(first - 3), y.from + 18, "below");
  std::vector<std::pair<std::string, std::string>> legend;
  const double width = (x.at(2) - x.at(0)) / static_cast<double>(curves.size());
  double left = x.at(first - 4);
  for (const Curve& curve : curves) {
    const double less = share_of(*curve.summary, 0, first);
    svg.rect(left, share.at(less), width, y.from - share.at(less), dot_style(curve.color) + " soft",
             curve.name + ": " + percent(less));
    left += width;
    std::vector<std::pair<double, double>> points{{x.at(first), y.from}};
    for (int bin = first; bin <= last; ++bin) {
      const double top = share.at(share_of(*curve.summary, bin, bin + 1));
      points.emplace_back(x.at(bin), top);
      points.emplace_back(x.at(bin + 1), top);
    }
    points.emplace_back(x.at(last + 1), y.from);
    svg.polyline(points, fmt::format("line s{} a{}", curve.color, curve.color));
    legend.emplace_back(dot_style(curve.color), curve.name);
  }
  svg.legend(x.from, 18, legend);
  return std::move(svg).finish();
}

std::string calibration_plot(const Report& report) {
  Svg svg(460, 410, "Calibration of the most likely token");
  const Axis x{0, 1, 62, 444}, y{0, 1, 350, 56};
  svg.frame(x, y, "confidence in the most likely token", "fraction correct");
  svg.line(x.at(0), y.at(0), x.at(1), y.at(1), "zero");
  std::vector<std::pair<std::string, std::string>> legend;
  const auto draw = [&](const Calibration& bins, int color, const char* style, const char* name) {
    int64_t total = 0;
    double error = 0;
    for (const CalibrationBin& bin : bins) total += bin.count;
    if (total == 0) return;
    Points points;
    for (const CalibrationBin& bin : bins) {
      if (bin.count == 0) continue;
      const double share = static_cast<double>(bin.count) / static_cast<double>(total);
      error += share * std::abs(bin.accuracy - bin.confidence);
      points.emplace_back(x.at(bin.confidence), y.at(bin.accuracy));
      svg.circle(points.back().first, points.back().second, 2.5 + 9 * std::sqrt(share),
                 fmt::format("f{} soft", color),
                 fmt::format("{}: {} tokens, confidence {}, correct {}", name,
                             html::format_count(bin.count), percent(bin.confidence),
                             percent(bin.accuracy)));
    }
    svg.polyline(points, line_style(color));
    legend.emplace_back(style, fmt::format("{} (ECE {:.2f}%)", name, 100 * error));
  };
  draw(report.summary.reference_calibration, 1, "f1", "reference");
  draw(report.summary.candidate_calibration, 0, "f0", "candidate");
  svg.legend(x.from, 18, legend);
  return std::move(svg).finish();
}

std::string layer_plot(const Report& report) {
  double max_error = 0;
  size_t num_points = 0;
  for (const LayerComparison& comparison : report.layer_comparisons) {
    num_points = comparison.hidden_errors.size();
    for (const double error : comparison.hidden_errors)
      if (std::isfinite(error)) max_error = std::max(max_error, error);
  }
  if (num_points == 0) return "";
  Svg svg(1100, 300, "Error of the hidden state after each layer");
  const Axis x{-0.5, static_cast<double>(num_points) - 0.5, 70, 1084};
  const Axis y{0, html::round_up(max_error), 250, 44};
  svg.frame(x, y, "embedding (e), then attention and MLP of each layer", "relative RMS error",
            false);
  const size_t layers = num_points / 2, every = (layers + 23) / 24;
  svg.text(x.at(0), y.from + 18, "e");
  for (size_t layer = 0; layer < layers; ++layer) {
    const double left = x.at(static_cast<double>(2 * layer) + 0.5);
    svg.line(left, y.from, left, y.to, "grid");
    if (layer % every == 0)
      svg.text(x.at(static_cast<double>(2 * layer) + 1.5), y.from + 18, fmt::format("{}", layer));
  }
  std::vector<std::pair<std::string, std::string>> legend;
  for (const LayerComparison& comparison : report.layer_comparisons) {
    const int color = color_of(comparison.label);
    Points points;
    for (size_t i = 0; i < num_points; ++i) {
      const double error = std::min(comparison.hidden_errors[i], y.high);
      points.emplace_back(x.at(static_cast<double>(i)),
                          y.at(std::isfinite(error) ? error : y.high));
    }
    svg.polyline(points, line_style(color));
    for (size_t i = 0; i < num_points; ++i) {
      svg.circle(points[i].first, points[i].second, 4, dot_style(color),
                 fmt::format("{}, {}: {:.4g}", comparison.label, tap_point_name(i),
                             comparison.hidden_errors[i]));
    }
    if (const auto jump = first_error_jump(comparison.hidden_errors)) {
      svg.circle(points[*jump].first, points[*jump].second, 9, "ring");
      const bool late = *jump > num_points / 2;
      svg.text(points[*jump].first + (late ? -14 : 14), points[*jump].second + 4,
               "jumps at " + tap_point_name(*jump), late ? "end" : "start", "bad");
    }
    legend.emplace_back(dot_style(color), comparison.label);
  }
  svg.legend(x.from, 22, legend);
  return std::move(svg).finish();
}

std::string routing_plot(const Report& report) {
  size_t layers = 0;
  double min_overlap = 1;
  for (const LayerComparison& comparison : report.layer_comparisons) {
    layers = comparison.routing.size();
    for (const RoutingAgreement& layer : comparison.routing)
      min_overlap = std::min(min_overlap, layer.top_k_overlap);
  }
  if (layers == 0) return "";
  Svg svg(1100, 260, "Agreement of expert routing");
  const Axis x{-0.5, static_cast<double>(layers) - 0.5, 70, 1084};
  const double low = std::clamp(100 - html::round_up(100 * (1 - min_overlap) * 1.1), 0.0, 99.0);
  const Axis y{low, 100, 210, 44};
  svg.frame(x, y, "MoE layer", "% of experts", false);
  const size_t every = (layers + 23) / 24;
  for (size_t layer = 0; layer < layers; ++layer) {
    const double at = x.at(static_cast<double>(layer));
    svg.line(at, y.from, at, y.to, "grid");
    if (layer % every == 0) svg.text(at, y.from + 18, fmt::format("{}", layer));
  }
  std::vector<std::pair<std::string, std::string>> legend;
  for (const LayerComparison& comparison : report.layer_comparisons) {
    const int color = color_of(comparison.label);
    Points points;
    for (size_t layer = 0; layer < layers; ++layer) {
      points.emplace_back(x.at(static_cast<double>(layer)),
                          y.at(100 * comparison.routing[layer].top_k_overlap));
    }
    svg.polyline(points, line_style(color));
    for (size_t layer = 0; layer < layers; ++layer) {
      const RoutingAgreement& r = comparison.routing[layer];
      svg.circle(points[layer].first, points[layer].second, 4, dot_style(color),
                 fmt::format("{}, layer {}: {} of experts, {} of top experts", comparison.label,
                             layer, percent(r.top_k_overlap), percent(r.same_top_expert)));
      if (layers <= 12) {
        svg.text(points[layer].first, points[layer].second - 9,
                 fmt::format("{:.1f}", 100 * r.top_k_overlap));
      }
    }
    legend.emplace_back(dot_style(color), comparison.label);
  }
  svg.legend(x.from, 18, legend);
  return std::move(svg).finish();
}

std::string weight_plot(const Report& report) {
  // One row per kind of tensor, one dot per layer. Kinds without errors are omitted.
  std::vector<std::string> kinds;
  double min_error = 1, max_error = 0;
  for (const LayerComparison& comparison : report.layer_comparisons) {
    for (const WeightError& w : comparison.weights) {
      if (!(w.relative_rms > 0) || !std::isfinite(w.relative_rms)) continue;
      min_error = std::min(min_error, w.relative_rms);
      max_error = std::max(max_error, w.relative_rms);
      const std::string kind = kind_of(w.name);
      if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
    }
  }
  if (kinds.empty()) return "";
  constexpr double kLine = 24, kFirst = 50;
  const double bottom = kFirst + kLine * static_cast<double>(kinds.size());
  Svg svg(1100, static_cast<int>(bottom) + 50, "Error of each tensor");
  const Axis x{std::pow(10, std::floor(std::log10(min_error) + 1e-9)),
               std::pow(10, std::ceil(std::log10(max_error) + 0.01)), 230, 1084, true};
  for (const auto& [value, label] : x.ticks(8)) {
    svg.line(x.at(value), kFirst, x.at(value), bottom, "grid");
    svg.text(x.at(value), bottom + 18, label);
  }
  for (int i = 2; x.high / x.low < 101 && i < 10; ++i) {
    for (double decade = x.low; decade < x.high * 0.99; decade *= 10)
      svg.line(x.at(i * decade), kFirst, x.at(i * decade), bottom, "grid");
  }
  svg.line(x.from, bottom, x.to, bottom, "axis");
  svg.text((x.from + x.to) / 2, bottom + 40, "relative RMS error of the weights", "middle", "name");
  std::map<std::string, double> line_of;
  for (size_t i = 0; i < kinds.size(); ++i) {
    line_of[kinds[i]] = kFirst + kLine * (static_cast<double>(i) + 0.5);
    svg.text(x.from - 12, line_of[kinds[i]] + 4, kinds[i], "end");
    svg.line(x.from, line_of[kinds[i]], x.to, line_of[kinds[i]], "grid");
  }
  std::vector<std::pair<std::string, std::string>> legend;
  for (size_t k = 0; k < report.layer_comparisons.size(); ++k) {
    const LayerComparison& comparison = report.layer_comparisons[k];
    const double shift = report.layer_comparisons.size() == 1 ? 0 : (k == 0 ? -4 : 4);
    for (const WeightError& w : comparison.weights) {
      if (!(w.relative_rms > 0) || !std::isfinite(w.relative_rms)) continue;
      svg.circle(x.at(w.relative_rms), line_of[kind_of(w.name)] + shift, 4,
                 fmt::format("f{} dot", color_of(comparison.label)),
                 fmt::format("{}, {}: {:.4g}", comparison.label, w.name, w.relative_rms));
    }
    legend.emplace_back(dot_style(color_of(comparison.label)), comparison.label);
  }
  svg.legend(x.from, 22, legend);
  return std::move(svg).finish();
}

}  // namespace mxgpt::eval
