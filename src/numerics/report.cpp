#include "numerics/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/printable.h"

namespace mxgpt {

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
        {"count", bin.count}, {"confidence", bin.confidence}, {"accuracy", bin.right}});
  }
  return result;
}

json::object to_json(const Summary& s) {
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
                               {"max_at", s.kld_max_at}}},
          {"top1", to_json(s.top1)},
          {"top5", to_json(s.top5)},
          {"probability_rms", number(s.scored ? s.probability_rms : NAN)},
          {"logprob_error", json::object{{"max", s.logprob_error}, {"at", s.logprob_error_at}}},
          {"kld_histogram",
           json::object{{"floor", kKldFloor},
                        {"bins_per_decade", kKldBinsPerDecade},
                        {"counts", json::array(s.histogram.begin(), s.histogram.end())}}},
          {"calibration", json::object{{"reference", to_json(s.reference_calibration)},
                                       {"candidate", to_json(s.candidate_calibration)}}}};
}

json::object to_json(const Insides& insides) {
  json::array places, routing, weights;
  for (size_t i = 0; i < insides.hidden_errors.size(); ++i) {
    places.push_back(
        json::object{{"place", place_name(i)}, {"relative_rms", number(insides.hidden_errors[i])}});
  }
  for (const RoutingAgreement& layer : insides.routing)
    routing.push_back(json::object{{"experts", layer.experts}, {"first", layer.first}});
  for (const WeightError& w : insides.weights) {
    weights.push_back(json::object{{"name", w.name},
                                   {"baseline_format", traits(w.reference).name},
                                   {"format", traits(w.candidate).name},
                                   {"elements", w.elements},
                                   {"relative_rms", number(w.relative_rms)}});
  }
  const auto jump = first_jump(insides.hidden_errors);
  return {{"label", insides.label},
          {"hidden_errors", places},
          {"first_jump", jump ? json::value(place_name(*jump)) : json::value(nullptr)},
          {"routing", routing},
          {"weights", weights}};
}

// Text.

constexpr int kLabelColumns = 30;

std::string row(std::string_view label, const std::string& text) {
  return fmt::format("{:<{}}{}\n", label, kLabelColumns, text);
}

std::string with_interval(const Estimate& e, const char* format) {
  if (e.samples == 0) return "not known";
  std::string text = fmt::format(fmt::runtime(format), e.value);
  if (e.has_interval()) {
    text += fmt::format(fmt::runtime(fmt::format("  [{}, {}]", format, format)), e.low, e.high);
  }
  return text;
}

std::string percent(const Estimate& e) {
  const Estimate of_100{100 * e.value, 100 * e.standard_error, 100 * e.low, 100 * e.high,
                        e.samples};
  return with_interval(of_100, "{:.3f}%");
}

std::string text_of(const Insides& insides, const std::string& baseline) {
  std::string out;
  if (!insides.routing.empty()) {
    double all = 0;
    size_t worst = 0;
    for (size_t i = 0; i < insides.routing.size(); ++i) {
      all += insides.routing[i].experts / static_cast<double>(insides.routing.size());
      if (insides.routing[i].experts < insides.routing[worst].experts) worst = i;
    }
    out +=
        row("  same experts chosen", fmt::format("{:.2f}%; least in layer {}: {:.2f}%", 100 * all,
                                                 worst, 100 * insides.routing[worst].experts));
  }
  if (!insides.hidden_errors.empty()) {
    const auto jump = first_jump(insides.hidden_errors);
    out += row("  hidden state, last layer", fmt::format("{:.3g}", insides.hidden_errors.back()));
    out += row("  first bad layer",
               jump ? fmt::format("{}: error jumps from {:.3g} to {:.3g}", place_name(*jump),
                                  *jump ? insides.hidden_errors[*jump - 1] : 0,
                                  insides.hidden_errors[*jump])
                    : "none; the error grows without a jump");
  }
  std::vector<WeightError> worst = insides.weights;
  std::stable_sort(worst.begin(), worst.end(), [](const WeightError& a, const WeightError& b) {
    return a.relative_rms > b.relative_rms;
  });
  if (!worst.empty() && worst[0].relative_rms == 0)
    out += row("  weights", "the same, all tensors");
  for (size_t i = 0; i < std::min<size_t>(worst.size(), 3) && worst[i].relative_rms != 0; ++i) {
    out += row(i ? "" : "  largest weight errors",
               fmt::format("{:.3g}  {} ({})", worst[i].relative_rms, worst[i].name,
                           traits(worst[i].candidate).name));
  }
  return out.empty() ? out
                     : fmt::format("\n{} against {}, inside\n", insides.label, baseline) + out;
}

}  // namespace

json::object to_json(const Report& report) {
  json::array subjects, verdicts, against_source, insides;
  for (const Subject& s : report.subjects) {
    subjects.push_back(json::object{{"label", s.label},
                                    {"path", s.path},
                                    {"sha256", s.sha256},
                                    {"about", s.about},
                                    {"precision", s.precision},
                                    {"bytes", s.bytes}});
  }
  for (const Verdict& v : report.verdicts) {
    verdicts.push_back(json::object{{"gate", v.gate},
                                    {"measured", v.measured},
                                    {"outcome", outcome_name(v.outcome)},
                                    {"reason", v.reason}});
  }
  for (const AgainstSource& a : report.against_source)
    against_source.push_back(json::object{{"label", a.label}, {"summary", to_json(a.summary)}});
  for (const Insides& i : report.insides) insides.push_back(to_json(i));
  return {
      {"title", report.title},
      {"command", report.command},
      {"version", report.version},
      {"date", report.date},
      {"subjects", subjects},
      {"text", json::object{{"path", report.text_path},
                            {"sha256", report.text_sha256},
                            {"documents", report.documents},
                            {"pieces", report.pieces},
                            {"chunk", report.chunk}}},
      {"clusters", json::object{{"kind", report.clusters.documents ? "documents" : "pieces"},
                                {"count", report.clusters.count}}},
      {"seconds", report.seconds},
      {"outcome", report.verdicts.empty() ? json::value(nullptr)
                                          : json::value(outcome_name(overall(report.verdicts)))},
      {"verdicts", verdicts},
      {"summary", to_json(report.summary)},
      {"against_source", against_source},
      {"baseline", report.baseline},
      {"insides", insides},
      {"insides_missing", report.insides_missing}};
}

std::string to_text(const Report& report) {
  std::string out;
  for (const Subject& s : report.subjects) {
    out += fmt::format("{:<11}{} ({}{}{})\n", s.label, printable(s.path), s.about,
                       s.precision.empty() ? "" : "; ", s.precision);
  }
  const Summary& s = report.summary;
  out += fmt::format("text       {}: {} documents, {} pieces of at most {} tokens\n",
                     printable(report.text_path), report.documents, report.pieces, report.chunk);
  out += fmt::format("           {} positions, {} tokens scored; 95% intervals over {} {}\n\n",
                     s.positions, s.scored, report.clusters.count,
                     report.clusters.documents ? "documents" : "pieces");
  if (s.scored) {
    out += row("perplexity, reference", fmt::format("{:.4f}", std::exp(s.reference_nll.value)));
    out += row("perplexity, candidate", fmt::format("{:.4f}", std::exp(s.candidate_nll.value)));
  }
  out += row("ln PPL ratio", with_interval(s.ln_ppl_ratio, "{:+.6f}"));
  out += row(report.stored && !report.stored_full ? "mean KLD (top 8 and the rest)" : "mean KLD",
             with_interval(s.kld, "{:.3e}"));
  out +=
      row("KLD median, p90, p99, p99.9", fmt::format("{:.2e}, {:.2e}, {:.2e}, {:.2e}", s.kld_median,
                                                     s.kld_p90, s.kld_p99, s.kld_p99_9));
  out += row("KLD max", fmt::format("{:.3e}", s.kld_max));
  out += row("top-1 agreement", percent(s.top1));
  out += row("top-5 agreement", percent(s.top5));
  if (s.scored) out += row("RMS of Δ p(token)", fmt::format("{:.4f}%", 100 * s.probability_rms));
  out += row("largest |Δ logprob|, top 8", fmt::format("{:.3e}", s.logprob_error));

  for (const AgainstSource& a : report.against_source) {
    out += fmt::format("\n{} against source\n", a.label);
    out += row("  ln PPL ratio", with_interval(a.summary.ln_ppl_ratio, "{:+.6f}"));
    out += row("  mean KLD", with_interval(a.summary.kld, "{:.3e}"));
    out += row("  KLD p99, p99.9, max", fmt::format("{:.2e}, {:.2e}, {:.2e}", a.summary.kld_p99,
                                                    a.summary.kld_p99_9, a.summary.kld_max));
    out += row("  top-1 agreement", percent(a.summary.top1));
  }
  for (const Insides& insides : report.insides) out += text_of(insides, report.baseline);
  if (report.insides.empty() && !report.insides_missing.empty())
    out += fmt::format("\nLayers and tensors are not compared: {}.\n", report.insides_missing);

  out += '\n';
  for (const Verdict& v : report.verdicts) {
    out += fmt::format("{:<14}{}: {}{}{}\n", outcome_name(v.outcome), v.gate, v.measured,
                       v.reason.empty() ? "" : "; ", v.reason);
  }
  if (report.verdicts.empty()) out += "No bound was given, so nothing is judged.\n";
  return out;
}

}  // namespace mxgpt
