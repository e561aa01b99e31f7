// HTML report: a self-contained page without scripts, fonts or external images.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/escape.h"
#include "eval/html.h"
#include "eval/report.h"
#include "eval/report_plots.h"

namespace mxgpt::eval {

namespace {

using html::escape;
using html::format_count;
using html::format_number;

constexpr std::string_view kStyle = R"css(
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1c2330; --soft: #5d6778; --rule: #e1e5eb; --grid: #e9ecf1;
  --c0: #2563c9; --c1: #d9730d; --c2: #8a94a6;
  --holds: #1a7f4b; --fails: #c62f3b; --undecided: #a86a00;
  --holds-back: #e4f4ea; --fails-back: #fce8e9; --undecided-back: #fdf1d8; --band: #1a7f4b1f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161d; --card: #1a202a; --ink: #e4e8ef; --soft: #98a3b5; --rule: #2b3442; --grid: #262e3a;
    --c0: #6ea3ff; --c1: #f2a154; --c2: #8591a5;
    --holds: #5fce93; --fails: #ff7d86; --undecided: #f0b74e;
    --holds-back: #16301f; --fails-back: #3a1a1e; --undecided-back: #362a10; --band: #5fce9326;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 36px 24px 64px; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 4px; }
p { margin: 0 0 10px; max-width: 78ch; }
.sub, .note { color: var(--soft); }
.note { font-size: 13.5px; max-width: 120ch; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 20px 22px; margin-top: 18px; overflow-x: auto; }
.verdict { display: flex; gap: 18px; align-items: center; flex-wrap: wrap; border-left: 6px solid; }
.verdict strong { font-size: 24px; }
.verdict.holds { border-left-color: var(--holds); } .verdict.fails { border-left-color: var(--fails); }
.verdict.undecided { border-left-color: var(--undecided); } .verdict.none { border-left-color: var(--c2); }
.pill { display: inline-block; padding: 1px 10px; border-radius: 99px; font-weight: 600; font-size: 13px; white-space: nowrap; }
.holds .pill, .pill.holds { color: var(--holds); background: var(--holds-back); }
.fails .pill, .pill.fails { color: var(--fails); background: var(--fails-back); }
.undecided .pill, .pill.undecided { color: var(--undecided); background: var(--undecided-back); }
.verdict.holds strong { color: var(--holds); } .verdict.fails strong { color: var(--fails); } .verdict.undecided strong { color: var(--undecided); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(215px, 1fr)); gap: 18px; margin-top: 18px; }
.cards section { margin: 0; padding: 15px 20px; }
.cards b { display: block; font-size: 25px; line-height: 1.3; font-weight: 650; font-variant-numeric: tabular-nums; letter-spacing: -0.01em; }
.cards span { color: var(--soft); font-size: 13.5px; }
.two section { margin: 0; }
.two { margin-top: 18px; display: grid; grid-template-columns: 620fr 460fr; gap: 18px; }
@media (max-width: 900px) { .two { grid-template-columns: 1fr; } }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 600; font-size: 13px; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td.n, th.n { text-align: right; padding: 7px 0 7px 18px; }
td small { display: block; color: var(--soft); font-size: 12.5px; white-space: nowrap; }
code { font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
pre { margin: 10px 0 0; padding: 12px 14px; background: var(--page); border: 1px solid var(--rule); border-radius: 7px; white-space: pre-wrap; }
summary { cursor: pointer; color: var(--c0); margin-top: 8px; }
dt { font-weight: 600; margin-top: 8px; } dd { margin: 0; color: var(--soft); max-width: 95ch; }
svg { display: block; width: 100%; min-width: 440px; height: auto; margin-top: 8px; font: 12.5px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
svg text { fill: var(--soft); } svg .name { fill: var(--ink); } svg .bad { fill: var(--fails); font-weight: 600; }
.grid { stroke: var(--grid); } .axis { stroke: var(--c2); } .zero { stroke: var(--c2); stroke-dasharray: 5 4; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); stroke-width: 1.5; }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); }
.a0 { fill: var(--c0); fill-opacity: .16; } .a1 { fill: var(--c1); fill-opacity: .16; }
.soft { opacity: .45; } .dot { opacity: .75; } .band { fill: var(--band); }
.ring { fill: none; stroke: var(--fails); stroke-width: 2.5; }
@media print { body { background: none; } section { break-inside: avoid; } }
)css";

std::string_view outcome_class(Outcome outcome) {
  return outcome == Outcome::pass ? "holds" : outcome == Outcome::fail ? "fails" : "undecided";
}

/// A table cell with a value and its interval.
std::string cell(const Estimate& e, double factor, const char* format) {
  if (e.samples == 0) return "<td class=\"n\">–</td>";
  const auto text = [&](double value) {
    std::string s = fmt::format(fmt::runtime(format), factor * value);
    if (s.starts_with('-')) s.replace(0, 1, "−");
    return s;
  };
  std::string interval;
  if (e.has_interval())
    interval = fmt::format("<small>{} to {}</small>", text(e.low), text(e.high));
  return fmt::format("<td class=\"n\">{}{}</td>", text(e.value), interval);
}

std::string kld_cell(const Estimate& e) {
  if (e.samples == 0) return "<td class=\"n\">–</td>";
  std::string interval;
  if (e.has_interval())
    interval = fmt::format("<small>{} to {}</small>", html::format_number(e.low),
                           html::format_number(e.high));
  return fmt::format("<td class=\"n\">{}{}</td>", html::format_number(e.value), interval);
}

std::string cell(const std::string& text) {
  return fmt::format("<td class=\"n\">{}</td>", text);
}

std::string card(const std::string& name, const std::string& value, const std::string& below) {
  return fmt::format("<section><span>{}</span><b>{}</b><span>{}</span></section>\n", name, value,
                     below);
}

std::string interval_text(const Estimate& e, double factor, const char* format) {
  if (!e.has_interval()) return "too few tokens for an interval";
  const std::string pattern = fmt::format("95%: {} to {}", format, format);
  std::string text = fmt::format(fmt::runtime(pattern), factor * e.low, factor * e.high);
  for (size_t at = 0; (at = text.find('-', at)) != text.npos;) text.replace(at, 1, "−");
  return text;
}

std::string cards_html(const Report& report) {
  const ComparisonSummary& s = report.summary;
  std::string out = "<div class=\"cards\">\n";
  if (s.scored) {
    const double r = s.ln_ppl_ratio.value;
    out += card("ln perplexity ratio", fmt::format("{}{:.5f}", r < 0 ? "−" : "+", std::abs(r)),
                interval_text(s.ln_ppl_ratio, 1, "{:+.5f}"));
  }
  out += card("mean KL divergence", html::format_number(s.kld.value),
              s.kld.has_interval() ? fmt::format("95%: {} to {}", html::format_number(s.kld.low),
                                                 html::format_number(s.kld.high))
                                   : "nats per token");
  out += card("same most likely token", fmt::format("{:.2f}%", 100 * s.top1.value),
              interval_text(s.top1, 100, "{:.2f}%"));
  out += card("positions compared", html::format_count(s.positions),
              fmt::format("{} independent {}", html::format_count(report.clusters.count),
                          report.clusters.documents ? "documents" : "chunks"));
  return out + "</div>\n";
}

std::string results_html(const Report& report) {
  if (report.results.empty()) {
    return "<section class=\"verdict none\"><strong>No bounds</strong><span class=\"sub\">This "
           "report "
           "only measures.</span></section>\n";
  }
  const Outcome all = overall_outcome(report.results);
  const char* name = all == Outcome::pass ? "Pass" : all == Outcome::fail ? "Fail" : "Inconclusive";
  const char* meaning = all == Outcome::pass ? "All bounds pass."
                        : all == Outcome::fail
                            ? "At least one bound fails."
                            : "No bound fails, but the text is too short to decide all of them.";
  std::string out = fmt::format(
      "<section class=\"verdict {}\"><strong>{}</strong><span class=\"sub\">{}</span></section>\n"
      "<section class=\"scroll\"><table><tr><th>bound</th><th class=\"n\">measured [95% "
      "interval]</th><th class=\"n\">outcome</th></tr>\n",
      outcome_class(all), name, meaning);
  for (const CriterionResult& v : report.results) {
    out += fmt::format(
        "<tr><td>{}{}</td><td class=\"n\">{}</td><td class=\"n\"><span class=\"pill "
        "{}\">{}</span></td></tr>\n",
        html::escape(v.criterion),
        v.reason.empty() ? "" : "<small>" + html::escape(v.reason) + "</small>",
        html::escape(v.measured), outcome_class(v.outcome), outcome_name(v.outcome));
  }
  return out + "</table></section>\n";
}

std::string hash_html(const std::string& sha256) {
  if (sha256.empty()) return "";
  return fmt::format("<br><code class=\"note\">sha256 {}</code>", html::escape(sha256));
}

std::string subjects_html(const Report& report) {
  std::string out =
      "<section><h2>Models and text</h2><div class=\"scroll\"><table><tr><th></th><th>model</th>"
      "<th>precision</th><th class=\"n\">size</th></tr>\n";
  for (const ReportSubject& s : report.subjects) {
    out += fmt::format(
        "<tr><td>{}</td><td><code>{}</code><br>{}{}</td><td>{}</td><td class=\"n\">{}</td></tr>\n",
        s.label, html::escape(s.path), html::escape(s.description), hash_html(s.sha256),
        s.precision.empty() ? "–" : html::escape(s.precision), format_bytes(s.bytes));
  }
  out += fmt::format(
      "<tr><td>text</td><td><code>{}</code><br>{} documents in {} chunks of at most {} tokens; {} "
      "tokens scored{}</td><td></td><td></td></tr>\n",
      html::escape(report.text_path), html::format_count(report.documents),
      html::format_count(report.chunks), report.chunk_length,
      html::format_count(report.summary.scored), hash_html(report.text_sha256));
  out += "</table></div>\n";
  return out + fmt::format("<pre><code>{}</code></pre></section>\n", html::escape(report.command));
}

std::string metrics_html(const Report& report) {
  std::vector<std::pair<std::string, const ComparisonSummary*>> columns{
      {"candidate<br>vs. reference", &report.summary}};
  for (const SourceComparison& a : report.source_comparisons)
    columns.emplace_back(a.label + "<br>vs. source", &a.summary);
  std::string out = "<section><h2>Metrics</h2><div class=\"scroll\"><table><tr><th></th>";
  for (const auto& [name, summary] : columns) out += fmt::format("<th class=\"n\">{}</th>", name);
  out += "</tr>\n";
  const auto row = [&](const char* name, const char* about, auto make) {
    out += fmt::format("<tr><td>{}<small>{}</small></td>", name, about);
    for (const auto& [label, summary] : columns) out += make(*summary);
    out += "</tr>\n";
  };
  if (report.summary.scored) {
    row("ln perplexity ratio", "below 0: the candidate predicts the text better",
        [](const ComparisonSummary& s) { return cell(s.ln_ppl_ratio, 1, "{:+.5f}"); });
    row("perplexity", "candidate, then reference", [](const ComparisonSummary& s) {
      return cell(fmt::format("{:.4f}<small>{:.4f}</small>", std::exp(s.candidate_nll.value),
                              std::exp(s.reference_nll.value)));
    });
  }
  row("mean KLD",
      report.has_stored_reference && !report.has_stored_logits ? "top 8 + remainder, nats" : "nats",
      [](const ComparisonSummary& s) { return kld_cell(s.kld); });
  const auto quantiles = [&](const char* name, double ComparisonSummary::*member) {
    row(name, "",
        [member](const ComparisonSummary& s) { return cell(html::format_number(s.*member)); });
  };
  quantiles("KLD, median", &ComparisonSummary::kld_median);
  quantiles("KLD, 90th percentile", &ComparisonSummary::kld_p90);
  quantiles("KLD, 99th percentile", &ComparisonSummary::kld_p99);
  quantiles("KLD, 99.9th percentile", &ComparisonSummary::kld_p99_9);
  quantiles("KLD, maximum", &ComparisonSummary::kld_max);
  row("top-1 agreement", "same most likely token",
      [](const ComparisonSummary& s) { return cell(s.top1, 100, "{:.3f}%"); });
  row("top-5 agreement", "fraction of top-5 tokens in common",
      [](const ComparisonSummary& s) { return cell(s.top5, 100, "{:.3f}%"); });
  if (report.summary.scored) {
    row("RMS of Δ p(token)", "probability of the next token", [](const ComparisonSummary& s) {
      return cell(fmt::format("{:.4f}%", 100 * s.probability_rms));
    });
  }
  row("max |Δ logprob|", "over the top 8 tokens",
      [](const ComparisonSummary& s) { return cell(html::format_number(s.max_logprob_error)); });
  return out + "</table></div></section>\n";
}

std::string weights_table(const Report& report) {
  constexpr size_t kMaxRows = 400;
  const std::vector<WeightError>& tensors = report.layer_comparisons.front().weights;
  std::string out = fmt::format(
      "<details><summary>All tensors ({})</summary><div class=\"scroll\"><table><tr><th>tensor</th>"
      "<th class=\"n\">elements</th>",
      html::format_count(static_cast<int64_t>(tensors.size())));
  for (const LayerComparison& layers : report.layer_comparisons)
    out += fmt::format("<th class=\"n\">{}</th><th class=\"n\">error</th>", layers.label);
  out += "</tr>\n";
  for (size_t i = 0; i < std::min(tensors.size(), kMaxRows); ++i) {
    out += fmt::format("<tr><td><code>{}</code></td><td class=\"n\">{}</td>",
                       html::escape(tensors[i].name), html::format_count(tensors[i].elements));
    for (const LayerComparison& layers : report.layer_comparisons) {
      const WeightError& w = layers.weights[i];
      out += fmt::format("<td class=\"n\">{}</td><td class=\"n\">{}</td>",
                         quant::traits(w.candidate).name, html::format_number(w.relative_rms));
    }
    out += "</tr>\n";
  }
  out += "</table></div>";
  if (tensors.size() > kMaxRows)
    out += fmt::format("<p class=\"note\">The first {}; the JSON report lists all.</p>", kMaxRows);
  return out + "</details>\n";
}

std::string layers_html(const Report& report) {
  if (report.layer_comparisons.empty()) {
    return report.no_layers_reason.empty()
               ? ""
               : fmt::format(
                     "<section><h2>Layers and weights</h2><p class=\"sub\">Not compared: "
                     "{}.</p></section>\n",
                     html::escape(report.no_layers_reason));
  }
  std::string out = fmt::format(
      "<section><h2>Hidden states by layer</h2><p class=\"note\">Relative RMS error against "
      "the {}: root mean square over tokens of |x′ − x| / |x|.",
      report.baseline);
  for (const LayerComparison& layers : report.layer_comparisons) {
    const auto jump = first_error_jump(layers.hidden_errors);
    out += fmt::format(" The {}’s {}.", layers.label,
                       jump ? "error first jumps at " + tap_point_name(*jump)
                            : std::string("error grows gradually; no layer stands out"));
  }
  out += "</p>" + layer_plot(report) + "</section>\n";
  if (const std::string plot = routing_plot(report); !plot.empty()) {
    out += fmt::format(
        "<section><h2>Expert routing</h2><p class=\"note\">Fraction of the experts chosen by the "
        "{} "
        "that this model chose as well.</p>{}</section>\n",
        report.baseline, plot);
  }
  if (!report.layer_comparisons.front().weights.empty()) {
    const std::string plot = weight_plot(report);
    out += fmt::format(
        "<section><h2>Weights by tensor</h2><p class=\"note\">Relative RMS error of the "
        "dequantized weights against the {}’s; {}.</p>{}{}</section>\n",
        report.baseline,
        plot.empty() ? "all are identical"
                     : "one dot per layer; tensors without an error are omitted",
        plot, weights_table(report));
  }
  return out;
}

constexpr std::string_view kMethod = R"html(<section><h2>Method</h2><dl>
<dt>Teacher forcing</dt><dd>All models process the same tokens, chunk by chunk, each chunk without preceding context. Every position gives a distribution over the next token; every token but the first of a chunk is scored.</dd>
<dt>KL divergence</dt><dd>Σ p ln(p / q) over the vocabulary, in nats; p is the distribution of the model compared against.</dd>
<dt>ln perplexity ratio</dt><dd>Mean over tokens of the difference in −ln p(token), paired by token. Equivalence within ±1% means that the whole interval lies within ±0.01.</dd>
<dt>Intervals</dt><dd>95%. Tokens of a document are correlated, so documents are the independent samples (chunks, if there are fewer than 30 documents). The variance of a mean is G/(G−1) · Σ (cluster total − cluster size · mean)² / N², with Student’s t and G−1 degrees of freedom (Cochran 1977; Cameron &amp; Miller 2015; Miller 2024, arXiv 2411.00640). Proportions have Wilson’s interval with the effective sample size (Korn &amp; Graubard 1998).</dd>
<dt>Calibration</dt><dd>Tokens in ten bins by the model’s probability of its most likely token, against the fraction of those tokens that were correct. ECE is the mean distance from the diagonal. Dot size shows the number of tokens.</dd>
<dt>Jump</dt><dd>The first point at which the hidden-state error is at least 10% (25% at the embedding), twice that of the previous point, and half of the maximum.</dd>
</dl></section>
)html";

}  // namespace

std::string to_html(const Report& report) {
  std::string out =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  out += fmt::format("<title>{}</title>\n<style>", html::escape(report.title));
  out += kStyle;
  out += fmt::format(
      "</style></head><body><main>\n<h1>{}</h1>\n<p class=\"sub\">mxgpt validate {} · {} · {:.0f} "
      "s</p>\n",
      html::escape(report.title), html::escape(report.version), html::escape(report.date),
      report.seconds);
  out += results_html(report);
  out += cards_html(report);
  if (const std::string plot = ratio_plot(report); !plot.empty()) {
    out += "<section><h2>Perplexity</h2>" + plot + "</section>\n";
  }
  out += metrics_html(report);
  out += "<div class=\"two\"><section><h2>KL divergence</h2>" + kld_plot(report) +
         "</section><section><h2>Calibration</h2>" + calibration_plot(report) +
         "</section></div>\n";
  out += layers_html(report);
  out += subjects_html(report);
  out += kMethod;
  return out + "</main></body></html>\n";
}

}  // namespace mxgpt::eval
