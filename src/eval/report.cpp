#include "eval/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/escape.h"

namespace mxgpt::eval {

namespace {

json::value number(double value) {
  return std::isfinite(value) ? json::value(value) : json::value(nullptr);
}

json::object to_json(const Estimate& e) {
  return {{"value", number(e.samples ? e.value : NAN)},
          {"standard_error", number(e.standard_error)},
          {"interval", json::array{number(e.low), number(e.high)}},
          {"samples", e.samples}};
}

json::array to_json(const Calibration& bins) {
  json::array result;
  for (const CalibrationBin& bin : bins) {
    result.push_back(json::object{
        {"count", bin.count}, {"confidence", bin.confidence}, {"accuracy", bin.accuracy}});
  }
  return result;
}

json::object to_json(const ComparisonSummary& s) {
  return {{"positions", s.positions},
          {"scored_tokens", s.scored},
          {"reference_nll", to_json(s.reference_nll)},
          {"candidate_nll", to_json(s.candidate_nll)},
          {"ln_ppl_ratio", to_json(s.ln_ppl_ratio)},
          {"kld", json::object{{"mean", to_json(s.kld)},
                               {"median", number(s.kld_median)},
                               {"p90", number(s.kld_p90)},
                               {"p99", number(s.kld_p99)},
                               {"p99_9", number(s.kld_p99_9)},
                               {"max", number(s.kld_max)},
                               {"max_at", s.kld_max_position}}},
          {"top1", to_json(s.top1)},
          {"top5", to_json(s.top5)},
          {"probability_rms", number(s.scored ? s.probability_rms : NAN)},
          {"logprob_error",
           json::object{{"max", s.max_logprob_error}, {"at", s.max_logprob_error_position}}},
          {"kld_histogram",
           json::object{{"floor", kKldFloor},
                        {"bins_per_decade", kKldBinsPerDecade},
                        {"counts", json::array(s.histogram.begin(), s.histogram.end())}}},
          {"calibration", json::object{{"reference", to_json(s.reference_calibration)},
                                       {"candidate", to_json(s.candidate_calibration)}}}};
}

json::object to_json(const LayerComparison& layers) {
  json::array points, routing, weights;
  for (size_t i = 0; i < layers.hidden_errors.size(); ++i) {
    points.push_back(json::object{{"point", tap_point_name(i)},
                                  {"relative_rms", number(layers.hidden_errors[i])}});
  }
  for (const RoutingAgreement& layer : layers.routing)
    routing.push_back(json::object{{"top_k_overlap", layer.top_k_overlap},
                                   {"same_top_expert", layer.same_top_expert}});
  for (const WeightError& w : layers.weights) {
    weights.push_back(json::object{{"name", w.name},
                                   {"baseline_format", quant::traits(w.reference).name},
                                   {"format", quant::traits(w.candidate).name},
                                   {"elements", w.elements},
                                   {"relative_rms", number(w.relative_rms)}});
  }
  const auto jump = first_error_jump(layers.hidden_errors);
  return {{"label", layers.label},
          {"hidden_errors", points},
          {"first_jump", jump ? json::value(tap_point_name(*jump)) : json::value(nullptr)},
          {"routing", routing},
          {"weights", weights}};
}

// Text report.

constexpr int kLabelColumns = 30;

std::string row(std::string_view label, const std::string& text) {
  return fmt::format("{:<{}}{}\n", label, kLabelColumns, text);
}

std::string format_estimate(const Estimate& e, const char* format) {
  if (e.samples == 0) return "unknown";
  std::string text = fmt::format(fmt::runtime(format), e.value);
  if (e.has_interval()) {
    text += fmt::format(fmt::runtime(fmt::format("  [{}, {}]", format, format)), e.low, e.high);
  }
  return text;
}

std::string percent(const Estimate& e) {
  const Estimate in_percent{100 * e.value, 100 * e.standard_error, 100 * e.low, 100 * e.high,
                            e.samples};
  return format_estimate(in_percent, "{:.3f}%");
}

std::string layers_text(const LayerComparison& layers, const std::string& baseline) {
  std::string out;
  if (!layers.routing.empty()) {
    double all = 0;
    size_t worst = 0;
    for (size_t i = 0; i < layers.routing.size(); ++i) {
      all += layers.routing[i].top_k_overlap / static_cast<double>(layers.routing.size());
      if (layers.routing[i].top_k_overlap < layers.routing[worst].top_k_overlap) worst = i;
    }
    out +=
        row("  experts in common", fmt::format("{:.2f}%; minimum {:.2f}% in layer {}", 100 * all,
                                               100 * layers.routing[worst].top_k_overlap, worst));
  }
  if (!layers.hidden_errors.empty()) {
    const auto jump = first_error_jump(layers.hidden_errors);
    out += row("  hidden state, last layer", fmt::format("{:.3g}", layers.hidden_errors.back()));
    out += row(
        "  first bad layer",
        jump ? fmt::format("{}: error jumps from {:.3g} to {:.3g}", tap_point_name(*jump),
                           *jump ? layers.hidden_errors[*jump - 1] : 0, layers.hidden_errors[*jump])
             : "none; the error grows gradually");
  }
  std::vector<WeightError> worst = layers.weights;
  std::stable_sort(worst.begin(), worst.end(), [](const WeightError& a, const WeightError& b) {
    return a.relative_rms > b.relative_rms;
  });
  if (!worst.empty() && worst[0].relative_rms == 0)
    out += row("  weights", "identical in all tensors");
  for (size_t i = 0; i < std::min<size_t>(worst.size(), 3) && worst[i].relative_rms != 0; ++i) {
    out += row(i ? "" : "  largest weight errors",
               fmt::format("{:.3g}  {} ({})", worst[i].relative_rms, worst[i].name,
                           quant::traits(worst[i].candidate).name));
  }
  return out.empty()
             ? out
             : fmt::format("\nLayers and weights, {} vs. {}\n", layers.label, baseline) + out;
}

}  // namespace

json::object to_json(const Report& report) {
  json::array subjects, results, source_comparisons, layers;
  for (const ReportSubject& s : report.subjects) {
    subjects.push_back(json::object{{"label", s.label},
                                    {"path", s.path},
                                    {"sha256", s.sha256},
                                    {"description", s.description},
                                    {"precision", s.precision},
                                    {"bytes", s.bytes}});
  }
  for (const CriterionResult& v : report.results) {
    results.push_back(json::object{{"criterion", v.criterion},
                                   {"measured", v.measured},
                                   {"outcome", outcome_name(v.outcome)},
                                   {"reason", v.reason}});
  }
  for (const SourceComparison& a : report.source_comparisons)
    source_comparisons.push_back(json::object{{"label", a.label}, {"summary", to_json(a.summary)}});
  for (const LayerComparison& i : report.layer_comparisons) layers.push_back(to_json(i));
  return {{"title", report.title},
          {"command", report.command},
          {"version", report.version},
          {"date", report.date},
          {"subjects", subjects},
          {"text", json::object{{"path", report.text_path},
                                {"sha256", report.text_sha256},
                                {"documents", report.documents},
                                {"chunks", report.chunks},
                                {"chunk", report.chunk_length}}},
          {"clusters", json::object{{"kind", report.clusters.documents ? "documents" : "chunks"},
                                    {"count", report.clusters.count}}},
          {"seconds", report.seconds},
          {"outcome", report.results.empty()
                          ? json::value(nullptr)
                          : json::value(outcome_name(overall_outcome(report.results)))},
          {"results", results},
          {"summary", to_json(report.summary)},
          {"source_comparisons", source_comparisons},
          {"baseline", report.baseline},
          {"layer_comparisons", layers},
          {"no_layers_reason", report.no_layers_reason}};
}

std::string to_text(const Report& report) {
  std::string out;
  for (const ReportSubject& s : report.subjects) {
    out += fmt::format("{:<11}{} ({}{}{})\n", s.label, escape_for_terminal(s.path), s.description,
                       s.precision.empty() ? "" : "; ", s.precision);
  }
  const ComparisonSummary& s = report.summary;
  out += fmt::format("text       {}: {} documents, {} chunks of at most {} tokens\n",
                     escape_for_terminal(report.text_path), report.documents, report.chunks,
                     report.chunk_length);
  out += fmt::format("           {} positions, {} tokens scored; 95% intervals over {} {}\n\n",
                     s.positions, s.scored, report.clusters.count,
                     report.clusters.documents ? "documents" : "chunks");
  if (s.scored) {
    out += row("perplexity, reference", fmt::format("{:.4f}", std::exp(s.reference_nll.value)));
    out += row("perplexity, candidate", fmt::format("{:.4f}", std::exp(s.candidate_nll.value)));
  }
  out += row("ln PPL ratio", format_estimate(s.ln_ppl_ratio, "{:+.6f}"));
  out +=
      row(report.has_stored_reference && !report.has_stored_logits ? "mean KLD (top 8 + remainder)"
                                                                   : "mean KLD",
          format_estimate(s.kld, "{:.3e}"));
  out +=
      row("KLD median, p90, p99, p99.9", fmt::format("{:.2e}, {:.2e}, {:.2e}, {:.2e}", s.kld_median,
                                                     s.kld_p90, s.kld_p99, s.kld_p99_9));
  out += row("KLD max", fmt::format("{:.3e}", s.kld_max));
  out += row("top-1 agreement", percent(s.top1));
  out += row("top-5 agreement", percent(s.top5));
  if (s.scored) out += row("RMS of Δ p(token)", fmt::format("{:.4f}%", 100 * s.probability_rms));
  out += row("largest |Δ logprob|, top 8", fmt::format("{:.3e}", s.max_logprob_error));

  for (const SourceComparison& a : report.source_comparisons) {
    out += fmt::format("\n{} vs. source\n", a.label);
    out += row("  ln PPL ratio", format_estimate(a.summary.ln_ppl_ratio, "{:+.6f}"));
    out += row("  mean KLD", format_estimate(a.summary.kld, "{:.3e}"));
    out += row("  KLD p99, p99.9, max", fmt::format("{:.2e}, {:.2e}, {:.2e}", a.summary.kld_p99,
                                                    a.summary.kld_p99_9, a.summary.kld_max));
    out += row("  top-1 agreement", percent(a.summary.top1));
  }
  for (const LayerComparison& layers : report.layer_comparisons)
    out += layers_text(layers, report.baseline);
  if (report.layer_comparisons.empty() && !report.no_layers_reason.empty())
    out += fmt::format("\nLayers and weights were not compared: {}.\n", report.no_layers_reason);

  out += '\n';
  for (const CriterionResult& v : report.results) {
    out += fmt::format("{:<14}{}: {}{}{}\n", outcome_name(v.outcome), v.criterion, v.measured,
                       v.reason.empty() ? "" : "; ", v.reason);
  }
  if (report.results.empty()) out += "No bounds were given.\n";
  return out;
}

}  // namespace mxgpt::eval
